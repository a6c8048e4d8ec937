"""Which component matters on which probe."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    SEQUENTIAL,
    add_color_bar,
    describe,
    draw_table,
    left_out,
    new_figure,
    table_size,
    to_arrays,
)


def importance_heatmap(
    tables: Mapping[str, Tensor],
    max_components: int | Mapping[str, int] = 64,
    quantity: str = "causal importance",
) -> Figure:
    """Causal importances, or what stands for them, of every site on single-feature probes, one panel per site.

    The colour scale is fixed to [0, 1], so that figures of different steps and runs compare. Where columns are left
    out, the panel's title says how many and the largest importance among them.

    Args:
        tables: per site ``[n_probes, C]``, row ``i`` the probe of feature ``i``, columns in the order to draw.
        max_components: columns drawn per site, one number for all or one for each.
        quantity: what the numbers are.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no site, a table is not a matrix or ``max_components`` is missing or below 1.
    """
    arrays = to_arrays("tables", tables, "n_probes", "C")
    most = max_components if isinstance(max_components, Mapping) else dict.fromkeys(arrays, max_components)
    for site in arrays:
        if most.get(site, 0) < 1:
            raise ValueError(f"max_components must be at least 1, got {most.get(site)} for {site!r}")
    rows = max(array.shape[0] for array in arrays.values())
    columns = max(min(most[site], array.shape[1]) for site, array in arrays.items())
    size = table_size(rows, columns, widest=4.8 if columns <= 200 else 7.2)
    figure, axes = new_figure(f"{quantity.capitalize()} on single-feature probes", len(arrays), *size)
    for panel, (site, array) in zip(axes, arrays.items(), strict=True):
        draw_table(panel, array[:, : most[site]], SEQUENTIAL, (0, 1))
        describe(panel, site, left_out(array, most[site]), "component (column)", "probed feature")
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), quantity)
    return figure
