"""Colours, sizes and the drawing that figures share. Figures are objects: no pyplot, no rcParams."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

BLANK = "0.6"
"""Grey of whatever is not a number."""

SEQUENTIAL: Colormap = colormaps["viridis"].with_extremes(bad=BLANK)
"""For values that start at 0; perceptually uniform."""

DIVERGING: Colormap = colormaps["RdBu_r"].with_extremes(bad=BLANK)
"""For signed values, white at 0; readable with every common colour blindness."""

CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#882255", "#000000")
"""Okabe and Ito's colours for the colour-blind, their yellow (invisible on white) replaced."""

MAIN, ACCENT, FAINT = CATEGORIES[0], CATEGORIES[3], "0.8"
MOST_NAMED = 12
"""Features or components that are named one by one in what is said of a picture."""

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 12, 9.5, 8
MAX_WIDTH = 15.0
"""Panels wrap to the next row beyond this width, in inches."""


def to_array(name: str, tensor: Tensor, *dims: str) -> Array:
    """Copy a tensor to the CPU as float64.

    Args:
        name: what to call the tensor in an error.
        tensor: any device, dtype and gradient state.
        dims: names of the dimensions it must have.

    Raises:
        ValueError: if the number of dimensions differs.
    """
    if tensor.ndim != len(dims):
        raise ValueError(f"{name} must have shape [{', '.join(dims)}], got {list(tensor.shape)}")
    array: Array = tensor.detach().cpu().to(torch.float64, copy=True).numpy()
    return array


def to_arrays(name: str, tensors: Mapping[str, Tensor], *dims: str) -> dict[str, Array]:
    """`to_array` for every site; a `ValueError` if there is none."""
    if not tensors:
        raise ValueError(f"{name} must not be empty, got {tensors!r}")
    return {site: to_array(f"{name}[{site!r}]", tensor, *dims) for site, tensor in tensors.items()}


def check_shown(name: str, components: Iterable[int], count: int) -> None:
    """Raise a `ValueError` unless all components to draw exist.

    Args:
        name: what to call them in the error.
        components: their numbers.
        count: of the components that there are.
    """
    if any(not 0 <= component < count for component in components):
        raise ValueError(f"{name} must hold components below {count}, got {list(components)}")


def table_size(rows: int, columns: int, widest: float) -> tuple[float, float]:
    """Width and height in inches of a panel for a matrix, cells near square while it is neither tiny nor huge."""
    width = float(np.clip(0.16 * columns, 2.6, widest))
    return width, float(np.clip(min(0.16, 1.3 * width / max(columns, 1)) * rows, 1.5, 6.0))


def largest(arrays: Iterable[Array]) -> float:
    """Largest finite magnitude, 1 where there is none, so that it can end a colour scale or an axis."""
    finite = (np.abs(array[np.isfinite(array)]) for array in arrays)
    return max((float(array.max()) for array in finite if array.size), default=0.0) or 1.0


def new_figure(
    title: str, panels: int, width: float, height: float, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, side by side and wrapped into rows that are at most `MAX_WIDTH` wide.

    Args:
        title: headline, wrapped to the figure's width.
        panels: number of panels, at least 1.
        width: of a panel's drawing area, in inches.
        height: of a panel's drawing area, in inches.
        columns: panels per row; by default as many as fit, rows filled evenly.

    Returns:
        The figure with an Agg canvas and its axes in reading order.
    """
    rows = math.ceil(panels / (columns or max(1, int(MAX_WIDTH // width))))
    columns = columns or math.ceil(panels / rows)
    size = (max(columns * (width + 0.45) + 0.6, 4.5), rows * (height + 0.95) + 0.4)
    figure = Figure(figsize=size, dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(wrapped(title, size[0] - 0.4, 1.15 * TITLE_SIZE), fontsize=TITLE_SIZE, fontweight="bold")
    axes = [figure.add_subplot(rows, columns, 1 + panel) for panel in range(panels)]
    for panel in axes:
        panel.tick_params(labelsize=TICK_SIZE)
    return figure, axes


def wrapped(text: str, inches: float, size: float) -> str:
    """Text of a font size in points, broken into lines that fit the width; line breaks in the text stay."""
    characters = max(12, int(inches * 72 / (0.55 * size)))
    return "\n".join(textwrap.fill(line, characters) for line in text.splitlines())


def literal(text: str) -> str:
    """Text of anybody's so that it is drawn as it is.

    A dollar sign starts no formula; line breaks and signs that the font does not have become escapes.
    """
    signs = (sign if sign.isprintable() and ord(sign) < 0x530 else ascii(sign)[1:-1] for sign in text)
    return "".join(signs).replace("$", r"\$")


def say(figure: Figure, text: str) -> Figure:
    """Keep with a figure what it shows, in words, for those who cannot see it; written into its file."""
    figure.set_label(text)
    return figure


def feature_colors(count: int) -> list[str] | Array:
    """The colour of every feature, the same in all pictures: distinct ones while there are enough, a gradient beyond.

    Args:
        count: number of features.
    """
    if count <= len(CATEGORIES):
        return list(CATEGORIES[:count])
    return np.asarray(SEQUENTIAL(np.linspace(0, 0.95, count)))


def label_components(axes: Axes, labels: Sequence[int]) -> None:
    """Component indices are arbitrary, so every column gets its own, upright and small where there are many."""
    many = len(labels) > 12
    label_ticks(axes.xaxis, labels, 60)
    axes.tick_params(axis="x", labelsize=6 if many else TICK_SIZE, labelrotation=90 if many else 0)


def color_features(axis: Axis, count: int) -> None:
    """Give the labels of features their colours, where these are distinct."""
    if count <= len(CATEGORIES):
        for label, position in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True):
            label.set(color=CATEGORIES[int(position)], fontweight="bold")


def describe(axes: Axes, title: str, note: str, x: str, y: str) -> None:
    """Give a panel its title, a note under it and the labels of its axes; empty texts are left out."""
    width = 1.15 * axes.bbox.width / axes.figure.dpi  # the layout widens the axes when the figure is drawn
    axes.set_xlabel(x, fontsize=LABEL_SIZE)
    axes.set_ylabel(y, fontsize=LABEL_SIZE)
    lines = [wrapped(text, width, LABEL_SIZE) for text in (title, note) if text]
    axes.set_title("\n".join(lines), fontsize=LABEL_SIZE)


def label_ticks(axis: Axis, labels: Sequence[int], most: int) -> None:
    """Write integers at positions 0, 1, 2, ..., thinned to round steps so that at most ``most`` remain."""
    sizes = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    step = next(size for size in sizes if len(labels) <= most * size)
    positions = range(0, len(labels), step)
    axis.set_ticks(positions, [str(labels[position]) for position in positions])


def draw_table(axes: Axes, values: Array, cmap: Colormap, limits: tuple[float, float]) -> None:
    """Draw a matrix ``[rows, columns]`` with row 0 on top; an empty one becomes a line of text."""
    if values.size == 0:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing to show", ha="center", transform=axes.transAxes, fontsize=LABEL_SIZE)
        return
    axes.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    label_ticks(axes.xaxis, range(values.shape[1]), 10)
    label_ticks(axes.yaxis, range(values.shape[0]), 10)


def left_out(values: Array, max_columns: int) -> str:
    """A note on the columns that are not drawn, with the largest magnitude among them; empty if all are."""
    if values.shape[1] <= max_columns:
        return ""
    most = np.max(np.abs(values[:, max_columns:]), initial=0)
    return f"first {max_columns} of {values.shape[1]} columns, the rest at most {most:.2g}"


def add_color_bar(
    figure: Figure, axes: Sequence[Axes], cmap: Colormap, limits: tuple[float, float], label: str
) -> None:
    """Add one colour bar for all panels, right of them, at most 5 inches tall."""
    height = figure.get_figheight()
    colors = ScalarMappable(Normalize(*limits), cmap)
    shrink, aspect = min(1.0, 5 / height), min(height, 5.0) / 0.16
    bar = figure.colorbar(colors, ax=list(axes), shrink=shrink, aspect=aspect, pad=0.02, fraction=0.04)
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
