"""What the output loses when components are taken away."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    ACCENT,
    DIVERGING,
    MAIN,
    MOST_NAMED,
    SEQUENTIAL,
    TICK_SIZE,
    Array,
    add_color_bar,
    color_features,
    describe,
    draw_table,
    label_components,
    largest,
    left_out,
    new_figure,
    say,
    table_size,
    to_arrays,
)


def ablation_dots(
    distances: Mapping[str, float],
    baseline: float | None = None,
    metric: str = "MSE",
    baseline_name: str = "baseline",
) -> Figure:
    """Distance between the masked and the target's output under each way of masking, as dots on a logarithmic axis.

    A logarithmic axis has no natural start, hence no bars. A distance that has no place on it (0, below 0 by rounding,
    not a number) is printed all the same.

    Args:
        distances: per regime the mean distance, in the order to draw from top to bottom.
        baseline: a distance to draw as a line, such as that with everything ablated.
        metric: name of the distance, for the axis.
        baseline_name: what the line is, for the legend.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no regime.
    """
    if not distances:
        raise ValueError(f"distances must not be empty, got {distances!r}")
    values = np.array([float(value) for value in distances.values()])
    marks = values if baseline is None else np.append(values, baseline)
    low, high = _decades(marks)
    figure, (axes,) = new_figure("Output distance to the target by mask", 1, 5.6, 0.32 * len(values) + 0.5)
    axes.set_xscale("log")
    axes.minorticks_off()
    right = high * (high / low) ** 0.2
    axes.set(xlim=(low, right), ylim=(len(values) - 0.4, -0.6))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.plot(
        np.clip(np.nan_to_num(values, nan=np.nan, posinf=right), None, right), range(len(values)), "o", color=MAIN
    )
    axes.set_yticks(range(len(values)), list(distances))
    _print_numbers(axes, values, low, high)
    if baseline is not None:
        label = f"{baseline_name} {baseline:.2e}"
        axes.axvline(baseline, color=ACCENT, linestyle="--", linewidth=1.2, label=label)
        figure.legend(fontsize=TICK_SIZE, loc="outside lower center")
    describe(axes, "", "", f"{metric} (log)", "")
    said = {**distances, baseline_name: baseline} if baseline is not None else distances
    return say(figure, f"{metric}: " + ", ".join(f"{name} {value:.2e}" for name, value in said.items()))


def _decades(values: Array) -> tuple[float, float]:
    """A power of ten below the positive finite values and the largest of them, at least two decades apart."""
    drawn = np.clip(values[np.isfinite(values) & (values > 0)], 1e-100, 1e100)
    if not drawn.size:
        return 0.01, 1.0
    low = 10.0 ** (np.floor(np.log10(drawn.min())) - 1)
    return float(low), float(max(drawn.max(), 100 * low))


def _print_numbers(axes: Axes, values: Array, low: float, high: float) -> None:
    """Every value as a number, right of its dot, or at the start without one."""
    for row, value in enumerate(values):
        end = float(np.clip(np.nan_to_num(value, nan=low), low, high))
        text = "0 (exact)" if value == 0 else f"{value:.2e}"
        label = axes.annotate(text, (end, row), (5, 0), textcoords="offset points", va="center", fontsize=TICK_SIZE)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})


def ablation_matrix(
    effects: Mapping[str, Tensor],
    columns: Mapping[str, Sequence[int]],
    metric: str = "output change",
    max_components: int = 64,
) -> Figure:
    """How the output on each probe changes when one component is ablated alone, one panel per site.

    One colour scale for all sites, from 0 to the largest effect; symmetric around 0 where an effect is negative.

    Args:
        effects: per site ``[n_probes, n_live]``, row ``i`` the probe of feature ``i``.
        columns: per site the ``n_live`` component indices that the columns stand for.
        metric: what an effect measures, for the colour bar.
        max_components: columns drawn per site.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no site or ``columns`` does not fit ``effects``.
    """
    arrays = to_arrays("effects", effects, "n_probes", "n_live")
    _check_columns(arrays, columns, max_components)
    drawn = {site: array[:, :max_components] for site, array in arrays.items()}
    cmap, limits = _scale(drawn.values())
    rows, width = (max(array.shape[dim] for array in drawn.values()) for dim in (0, 1))
    size = table_size(rows, width, widest=7.2)
    figure, axes = new_figure("Effect of ablating one component", len(drawn), *size)
    for panel, (site, array) in zip(axes, drawn.items(), strict=True):
        draw_table(panel, array, cmap, limits)
        label_components(panel, columns[site][: array.shape[1]])
        color_features(panel.yaxis, len(array))
        describe(panel, site, left_out(arrays[site], max_components), "ablated component (index)", "probed feature")
    add_color_bar(figure, axes, cmap, limits, metric)
    return say(figure, "; ".join(_in_words(site, arrays[site], columns[site]) for site in arrays))


def _in_words(site: str, effects: Array, components: Sequence[int]) -> str:
    """Which component each probe needs most."""
    if not effects.size:
        return f"{site}: no component to ablate"
    needed = [components[column] for column in np.nan_to_num(effects).argmax(1)[:MOST_NAMED]]
    return f"{site}: features 0, 1, ... change most without components {', '.join(map(str, needed))}"


def _check_columns(arrays: Mapping[str, Array], columns: Mapping[str, Sequence[int]], max_components: int) -> None:
    """Raise a `ValueError` unless every column has a name and at least one may be drawn."""
    for site, array in arrays.items():
        if len(columns.get(site, ())) != array.shape[1]:
            names = columns.get(site)
            raise ValueError(f"columns[{site!r}] must name the {array.shape[1]} columns of effects, got {names}")
    if max_components < 1:
        raise ValueError(f"max_components must be at least 1, got {max_components}")


def _scale(arrays: Collection[Array]) -> tuple[Colormap, tuple[float, float]]:
    """Colours and their limits, from 0 unless an effect is negative."""
    limit = largest(arrays)
    if any((array < 0).any() for array in arrays):
        return DIVERGING, (-limit, limit)
    return SEQUENTIAL, (0.0, limit)
