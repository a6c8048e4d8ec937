"""Which component matters on which probe."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    MOST_NAMED,
    SEQUENTIAL,
    Array,
    add_color_bar,
    check_shown,
    color_features,
    describe,
    draw_table,
    label_components,
    new_figure,
    say,
    table_size,
    to_arrays,
)


def importance_heatmap(
    tables: Mapping[str, Tensor],
    shown: Mapping[str, Sequence[int]] | None = None,
    quantity: str = "causal importance",
    probes: str = "single-feature probes",
    row: str = "probed feature",
) -> Figure:
    """Causal importances, or what stands for them, of every site on probes, one panel per site.

    The colour scale is fixed to [0, 1], so that figures of different steps and runs compare. Where components are left
    out, the panel's title says how many and the largest importance among them.

    Args:
        tables: per site ``[n_probes, C]``; with single-feature probes row ``i`` is that of feature ``i``.
        shown: per site the components to draw, in the order to draw; all by default.
        quantity: what the numbers are.
        probes: what they were taken on.
        row: what a row is.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no site, a table is not a matrix or a component to draw does not exist.
    """
    arrays = to_arrays("tables", tables, "n_probes", "C")
    columns = {site: _columns(site, array, shown) for site, array in arrays.items()}
    widest = max(len(some) for some in columns.values())
    rows = max(array.shape[0] for array in arrays.values())
    size = table_size(rows, widest, widest=4.8 if widest <= 200 else 7.2)
    figure, axes = new_figure(f"{quantity.capitalize()} on {probes}", len(arrays), *size)
    for panel, (site, array) in zip(axes, arrays.items(), strict=True):
        draw_table(panel, array[:, columns[site]], SEQUENTIAL, (0, 1))
        label_components(panel, columns[site])
        color_features(panel.yaxis, len(array))
        describe(panel, site, _left_out(array, columns[site]), "component (index)", row)
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), quantity)
    return say(figure, "; ".join(_in_words(site, array, columns[site]) for site, array in arrays.items()))


def _columns(site: str, array: Array, shown: Mapping[str, Sequence[int]] | None) -> list[int]:
    """Components to draw, once they exist."""
    columns = list(range(array.shape[1])) if shown is None else list(shown.get(site, ()))
    check_shown(f"shown[{site!r}]", columns, array.shape[1])
    return columns


def _left_out(array: Array, columns: Sequence[int]) -> str:
    """A note on the components that are not drawn; empty if all are."""
    rest = np.delete(array, columns, axis=1)
    if not rest.size:
        return ""
    return f"{len(columns)} of {array.shape[1]} components, the others at most {rest.max():.2g}"


def _in_words(site: str, array: Array, columns: Sequence[int]) -> str:
    """How many are drawn, and which matters most to each of the first features."""
    if not array.size:
        return f"{site}: no components"
    strongest = np.nan_to_num(array).argmax(1)[:MOST_NAMED]
    pairs = ", ".join(f"{row}: {column} ({array[row, column]:.2f})" for row, column in enumerate(strongest))
    return f"{site}: {len(columns)} of {array.shape[1]} components; the strongest of each feature {pairs}"
