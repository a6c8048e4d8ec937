"""What each component writes, column by column, next to the target's matrix (Figure 1 of the SPD paper)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spd_lightning.figures.factors import Factors, checked_factors
from spd_lightning.figures.style import (
    CATEGORIES,
    DIVERGING,
    FAINT,
    MOST_NAMED,
    TICK_SIZE,
    Array,
    add_color_bar,
    check_shown,
    describe,
    draw_table,
    feature_colors,
    largest,
    new_figure,
    say,
    table_size,
)

MAX_SHOWN = 12
"""Components drawn per figure."""

Matrices = dict[str, tuple[Array, str]]
"""Per panel a matrix ``[d_out, d_in]`` and a note."""


def component_vectors(weight: Tensor, read: Tensor, write: Tensor, shown: Sequence[int], title: str) -> Figure:
    """The target's matrix, the sum of all components and single components, on one scale.

    Columns in the plane (``d_out = 2``) are drawn as arrows, one colour per input feature, the target's columns in grey
    behind them; columns of any other length as heat maps. Nothing is normalised.

    Args:
        weight: the target's matrix ``[d_out, d_in]``; transpose a site whose rows are of interest, and swap ``read``
            and ``write`` with it.
        read: ``V``, ``[d_in, C]``, or ``[d_in, C, m]`` for components of any rank.
        write: ``U``, ``[C, d_out]`` or ``[C, m, d_out]``; column ``j`` of component ``c`` is ``U[c] * V[j, c]``.
        shown: components that get a panel of their own, the first `MAX_SHOWN` of them.
        title: headline.

    Returns:
        The figure.

    Raises:
        ValueError: if shapes do not fit each other or a component does not exist.
    """
    factors = _checked(weight, read, write, shown)
    drawn = shown[:MAX_SHOWN]
    if len(drawn) < len(shown):
        title += f" (first {len(drawn)} of {len(shown)} components)"
    with np.errstate(invalid="ignore", over="ignore"):
        matrices = _matrices(factors, drawn)
    figure = _arrows(matrices, title) if factors.weight.shape[0] == 2 else _tables(matrices, title)
    return say(figure, "; ".join([title, *(_in_words(factors, component) for component in drawn[:MOST_NAMED])]))


def _in_words(factors: Factors, component: int) -> str:
    """The feature that a component carries, and how much of it."""
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.nan_to_num(np.linalg.norm(factors.component(component), axis=0))
        share = norms.max(initial=0) ** 2 / max(float((norms**2).sum()), 1e-30)
    return f"component {component} carries feature {norms.argmax()} ({share:.0%} of its squared norm)"


def _checked(weight: Tensor, read: Tensor, write: Tensor, shown: Sequence[int]) -> Factors:
    """Arrays of the three tensors, once they fit."""
    factors = checked_factors("weight, read and write", ("weight", "read", "write"), weight, read, write)
    check_shown("shown", shown, factors.read.shape[1])
    return factors


def _matrices(factors: Factors, drawn: Sequence[int]) -> Matrices:
    """What each panel shows."""
    target, total = factors.weight, factors.total()
    misfit = f"largest error {np.abs(target - total).max(initial=0):.2g}"
    matrices = {"target": (target, ""), f"sum of all {factors.read.shape[1]}": (total, misfit)}
    for component in drawn:
        part = factors.component(component)
        matrices[f"component {component}"] = (part, f"norm {np.linalg.norm(part):.3g}")
    return matrices


def _arrows(matrices: Matrices, title: str) -> Figure:
    """Columns as arrows from the origin, on equal axes."""
    target = matrices["target"][0]
    limit = 1.2 * largest(matrix for matrix, _ in matrices.values())
    figure, axes = new_figure(title, len(matrices), 2.7, 2.4)
    ticks = [tick for tick in MaxNLocator(5).tick_values(-limit, limit) if abs(tick) <= limit]
    colors = feature_colors(target.shape[1])
    for panel, (name, (matrix, note)) in zip(axes, matrices.items(), strict=True):
        _draw_target_behind(panel, target)
        origin = np.zeros(matrix.shape[1])
        panel.quiver(
            origin, origin, *matrix, color=colors, angles="xy", scale_units="xy", scale=1, units="inches", width=0.03
        )
        panel.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=ticks, yticks=ticks)
        describe(panel, name, note, "coordinate 0", "coordinate 1")
    _add_legend(figure, axes, colors)
    return figure


def _draw_target_behind(axes: Axes, target: Array) -> None:
    """The axes' origin and the target's columns, in grey."""
    axes.axhline(0, color="0.93", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.93", linewidth=0.8, zorder=0)
    for x, y in target.T:
        axes.plot([0, x], [0, y], color=FAINT, linewidth=1, marker="o", markevery=[1], markersize=4, zorder=1)


def _add_legend(figure: Figure, axes: Sequence[Axes], colors: list[str] | Array) -> None:
    """One entry per feature, or a colour bar where entries would not fit."""
    if len(colors) > len(CATEGORIES):
        add_color_bar(figure, axes, ListedColormap(np.asarray(colors)), (-0.5, len(colors) - 0.5), "feature")
        return
    handles = [Line2D([], [], color=color, linewidth=3, label=str(j)) for j, color in enumerate(colors)]
    figure.legend(handles=handles, title="feature", loc="outside right center", fontsize=TICK_SIZE)


def _tables(matrices: Matrices, title: str) -> Figure:
    """Matrices as heat maps, white at 0."""
    rows, columns = matrices["target"][0].shape
    limit = largest(matrix for matrix, _ in matrices.values())
    figure, axes = new_figure(title, len(matrices), *table_size(rows, columns, widest=3.2))
    for panel, (name, (matrix, note)) in zip(axes, matrices.items(), strict=True):
        draw_table(panel, matrix, DIVERGING, (-limit, limit))
        describe(panel, name, note, "feature (column)", "coordinate (row)")
    add_color_bar(figure, axes, DIVERGING, (-limit, limit), "weight")
    return figure
