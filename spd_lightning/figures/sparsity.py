"""What the output loses over how many components are kept."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from spd_lightning.figures.style import ACCENT, CATEGORIES, MAIN, TICK_SIZE, describe, new_figure, say


def sparsity_curve(points: Mapping[str, tuple[float, float]], lines: Mapping[str, float], unit: str) -> Figure:
    """A mark per threshold of importance, joined in their order.

    Args:
        points: by threshold L0, the mean number of components that are kept, and the loss with these alone.
        lines: losses to compare with, by name.
        unit: what a loss is, for the axis.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no point.
    """
    if not points:
        raise ValueError(f"points must not be empty, got {points!r}")
    l0, losses = (np.array([pair[side] for pair in points.values()], dtype=np.float64) for side in (0, 1))
    figure, (axes,) = new_figure("What is lost as fewer components are kept", 1, 5.0, 3.2)
    axes.plot(l0, losses, "o-", color=MAIN, linewidth=1, markersize=5)
    for name, x, y in zip(points, l0, losses, strict=True):
        if np.isfinite(x) and np.isfinite(y):
            axes.annotate(name, (x, y), (4, 4), textcoords="offset points", fontsize=TICK_SIZE)
    colors = ACCENT, CATEGORIES[7]
    for (name, value), color, dashes in zip(lines.items(), colors, ("--", ":"), strict=False):
        axes.axhline(value, color=color, linestyle=dashes, linewidth=1.2, label=f"{name} {value:.3g}")
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_xlim(left=0)
    figure.legend(fontsize=TICK_SIZE, loc="outside lower center", ncols=2)
    describe(axes, "", "numbers: importance above which a component is kept", "components kept (L0, all sites)", unit)
    said = (f"above {name} L0 {x:.3g} {unit} {y:.3g}" for name, (x, y) in points.items())
    compared = (f"{name} {value:.3g}" for name, value in lines.items())
    return say(figure, "; ".join([*said, *compared]))
