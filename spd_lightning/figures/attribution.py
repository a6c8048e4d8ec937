"""A graph of what acts on what, drawn from left to right."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from spd_lightning.figures.style import ACCENT, MAIN, TICK_SIZE, Array, new_figure, say

WIDTHS = 0.3, 3.5
"""Of an edge in points, from magnitude 0 to the largest."""
NODE, COLUMN = 0.34, 1.75
"""Height of a node with its margin, and width of a column, in inches."""
LARGEST = 60.0
"""Of the figure, in inches, either way."""
HALF = 0.28, 0.36
"""Half the width of a node, in columns, and half its height, in nodes with margins."""
BEND = 0.4
"""How far a line rises for every column that it passes, in nodes with margins."""
LETTERS = 14
"""Characters of a label that are shown."""
COLORS = {"input": "#D8E8F3", "component": "white", "rest": "0.85", "bias": "#FBF0DC", "output": "#DDF0E6"}
"""Of the boxes, by kind of node."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a graph.

    Attributes:
        columns: names of the columns, from left to right.
        rows: names of the rows, from top to bottom; one without a name where there are no positions.
        column: of every node, ``[n]``.
        row: of every node, ``[n]``.
        labels: what is written into the nodes.
        kinds: what they are, a key of :data:`COLORS`.
        source: the node that an edge leaves, ``[e]``.
        target: the node that it reaches, ``[e]``.
        strength: of every edge, its sign that of the attribution, ``[e]``.
        note: a line under the title.
        said: what the picture shows, in words.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    labels: Sequence[str]
    kinds: Sequence[str]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    strength: Array
    note: str = ""
    said: Sequence[str] = ()


def attribution_diagram(drawn: Drawn, title: str) -> Figure:
    """Nodes in columns, as the network comes to them, and rows, one for every position; edges between them.

    An edge is wider the stronger it is, blue where it raises its target and orange, dashed, where it lowers it.

    Args:
        drawn: the graph.
        title: headline.

    Returns:
        The figure.

    Raises:
        ValueError: for a graph without nodes.
    """
    if not len(drawn.labels):
        raise ValueError("a graph without nodes cannot be drawn")
    places, heights = _placed(drawn)
    columns, lines = len(drawn.columns), float(sum(heights))
    figure, (axes,) = new_figure(_plain(title), 1, min(columns * COLUMN, LARGEST), min(lines * NODE + 1.0, LARGEST))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(lines, 0.0))
    _draw_rows(axes, drawn, heights)
    _draw_edges(axes, drawn, places)
    _draw_nodes(axes, drawn, places)
    _legend(axes)
    axes.set_title(_plain(drawn.note), fontsize=TICK_SIZE, parse_math=False)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar is a token like any other
    return say(figure, "; ".join(map(_plain, drawn.said)) or _plain(title))


def _placed(drawn: Drawn) -> tuple[Array, list[int]]:
    """Where nodes stand, ``[n, 2]``, one below the other where row and column are the same, and lines of each row."""
    cells: dict[tuple[int, int], list[int]] = {}
    for node, key in enumerate(zip(drawn.column.tolist(), drawn.row.tolist(), strict=True)):
        cells.setdefault(key, []).append(node)
    heights = [max((len(cells[key]) for key in cells if key[1] == row), default=1) for row in range(len(drawn.rows))]
    top = np.cumsum([0, *heights])
    places = np.zeros((len(drawn.labels), 2))
    for (column, row), nodes in cells.items():
        first = top[row] + (heights[row] - len(nodes)) / 2  # in the middle of its row
        for line, node in enumerate(nodes):
            places[node] = column, first + line + 0.5
    return places, heights


def _draw_rows(axes: Axes, drawn: Drawn, heights: Sequence[int]) -> None:
    edges = np.cumsum([0, *heights])
    for line in edges[1:-1]:
        axes.axhline(line, color="0.9", linewidth=0.6, zorder=0)
    axes.set_yticks((edges[:-1] + edges[1:]) / 2, [_short(name) for name in drawn.rows])
    axes.set_xticks(range(len(drawn.columns)), [_plain(name) for name in drawn.columns])
    for label in axes.get_xticklabels():
        label.set(rotation=20, horizontalalignment="right", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=TICK_SIZE)
    axes.set_frame_on(False)


def _draw_edges(axes: Axes, drawn: Drawn, places: Array) -> None:
    if not len(drawn.source):
        return
    strength = np.abs(drawn.strength) / (np.abs(drawn.strength).max() or 1.0)
    order = strength.argsort()
    lines = _curves(places[drawn.source], places[drawn.target])[order]
    negative = drawn.strength[order] < 0
    axes.add_collection(
        LineCollection(
            list(lines),
            colors=[ACCENT if below else MAIN for below in negative],
            linewidths=(WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * strength[order]).tolist(),
            linestyles=[(0, (2.5, 1.2)) if below else "solid" for below in negative],
            alpha=0.65,
            zorder=1,
            clip_on=False,
        )
    )


def _curves(starts: Array, ends: Array) -> Array:
    """Points of lines from the right of nodes to the left of others, ``[e, points, 2]``; long ones rise."""
    along = np.linspace(0, 1, 25)[None, :, None]
    half = np.array([HALF[0], 0.0])
    starts, ends = starts + half, ends - half
    lines: Array = starts[:, None] + along * (ends - starts)[:, None]
    bend = np.minimum(BEND * (ends - starts)[:, :1].round(), 2.5)  # a line to the next column is straight
    lines[..., 1] -= 4 * bend * (along * (1 - along))[..., 0]
    return lines


def _draw_nodes(axes: Axes, drawn: Drawn, places: Array) -> None:
    for (x, y), label, kind in zip(places.tolist(), drawn.labels, drawn.kinds, strict=True):
        axes.add_patch(
            Rectangle(
                (x - HALF[0], y - HALF[1]), 2 * HALF[0], 2 * HALF[1], facecolor=COLORS[kind], edgecolor="0.35", zorder=2
            )
        )
        axes.text(x, y, _short(label), ha="center", va="center", fontsize=6.5, zorder=3, clip_on=False)


def _legend(axes: Axes) -> None:
    lines = [
        Line2D([], [], color=MAIN, label="raises"),
        Line2D([], [], color=ACCENT, linestyle=(0, (2.5, 1.2)), label="lowers"),
    ]
    axes.legend(handles=lines, fontsize=TICK_SIZE, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


@cache
def _drawable() -> frozenset[str]:
    """Characters that the font has."""
    return frozenset(map(chr, get_font(findfont(FontProperties())).get_charmap()))


def _plain(text: str) -> str:
    """Text in which characters that cannot be drawn are escaped, as Python does."""
    return "".join(
        letter if letter.isprintable() and letter in _drawable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _short(text: str) -> str:
    text = _plain(text)
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
