"""What components do on images: what they read, where they matter, and what removing them changes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import ACCENT, DIVERGING, LABEL_SIZE, MAIN, TICK_SIZE, TITLE_SIZE, Array, say, to_array

WIDTH, HEIGHT = 1.1, 0.95
"""Of one picture, in inches."""


def component_images(
    title: str, names: list[str], reads: Tensor | None, examples: Tensor, importances: Tensor, effects: Tensor
) -> Figure:
    """A row per component: its read vector as an image, examples that it matters on, the effect of its removal.

    Args:
        title: of the figure.
        names: of the components.
        reads: read vectors ``[k, height, width]``; ``None`` where they are no images.
        examples: per component some examples, ``[k, n, height, width]``.
        importances: of the component on these, ``[k, n]``.
        effects: mean change of each output when the component is removed, ``[k, outputs]``.

    Returns:
        The figure.
    """
    pictures, marks = to_array("examples", examples, "k", "n", "h", "w"), to_array("importances", importances, "k", "n")
    changes = to_array("effects", effects, "k", "outputs")
    vectors = None if reads is None else to_array("reads", reads, "k", "h", "w")
    columns = pictures.shape[1] + (vectors is not None)
    figure = Figure(figsize=(WIDTH * columns + 3.2, HEIGHT * len(names) + 0.9), layout="constrained")
    grid = figure.subplots(len(names), columns + 1, squeeze=False, width_ratios=[1.0] * columns + [2.8])
    for row, name in enumerate(names):
        panels = list(grid[row])
        if vectors is not None:
            _read(panels.pop(0), vectors[row])
        for panel, picture, mark in zip(panels, pictures[row], marks[row], strict=False):
            _picture(panel, picture, mark)
        _effects(panels[-1], changes[row], np.abs(changes).max() or 1.0, last=row == len(names) - 1)
        grid[row][0].set_ylabel(name, fontsize=LABEL_SIZE, rotation=0, ha="right", va="center")
    _head(grid[0], vectors is not None, columns)
    figure.suptitle(title, fontsize=TITLE_SIZE)
    most = zip(names, np.abs(changes).argmax(1), strict=True)
    return say(figure, "; ".join([title, *(f"without {name} output {output} changes most" for name, output in most)]))


def _head(panels: Array, with_reads: bool, columns: int) -> None:
    if with_reads:
        panels[0].set_title("reads", fontsize=LABEL_SIZE)
    if columns > with_reads:
        panels[int(with_reads)].set_title("matters on", fontsize=LABEL_SIZE, loc="left")
    panels[-1].set_title("change of each output when removed", fontsize=LABEL_SIZE)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _read(axes: Axes, vector: Array) -> None:
    most = float(np.abs(vector).max()) or 1.0
    axes.imshow(vector, cmap=DIVERGING, vmin=-most, vmax=most)
    _bare(axes)


def _picture(axes: Axes, picture: Array, importance: float) -> None:
    axes.imshow(picture, cmap="gray_r")
    axes.set_xlabel(f"{importance:.2f}", fontsize=TICK_SIZE, labelpad=1)
    _bare(axes)


def _effects(axes: Axes, changes: Array, most: float, *, last: bool) -> None:
    numbers = np.arange(len(changes))
    axes.bar(numbers, changes, color=[MAIN if change >= 0 else ACCENT for change in changes])
    axes.axhline(0, color="0.3", linewidth=0.7)
    axes.set_ylim(-1.1 * most, 1.1 * most)
    axes.tick_params(labelsize=TICK_SIZE)
    axes.set_xticks(numbers, [str(number) for number in numbers] if last else [""] * len(numbers))
