"""A chain of sites as a network of nodes and weighted edges (Figures 2 to 4 of the SPD paper)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from spd_lightning.figures.factors import Factors, checked_factors
from spd_lightning.figures.style import (
    MAX_WIDTH,
    MOST_NAMED,
    TICK_SIZE,
    Array,
    check_shown,
    describe,
    feature_colors,
    largest,
    new_figure,
    say,
)

MAX_NODES = 40
"""Columns of more nodes are cut down to `FEW_NODES`: their edges would be a black square."""

FEW_NODES = 12
"""Nodes drawn of a column that is too long."""

MAX_COMPONENTS = 20
"""Components drawn per figure, fewer where panels are large."""

MAX_HEIGHT = 17.0
"""Of the figure, in inches; leaves fewer components where panels are tall."""

NUMBERED = 12
"""Columns of at most this many nodes carry numbers."""

INVISIBLE = 0.05
"""Edges below this share of the widest one are not drawn: a trace of an edge says nothing and distracts."""

INNER = "0.25"
"""Grey of edges and nodes between inputs and outputs, which belong to no feature."""

DASHED = (0, (2.5, 1.2))
"""Of negative edges: the colour says which feature, so the sign needs another means."""

WIDTHS = 0.4, 2.6
"""Width of an edge in points, from magnitude 0 to the largest one."""

Site = tuple[Tensor, Tensor, Tensor]
"""The target's matrix ``[d_out, d_in]``, V ``[d_in, C]`` and U ``[C, d_out]``, or with a rank, ``[d_in, C, m]`` ..."""

Group = tuple[str, ...]
"""Sites in which a component has a part."""

Panel = tuple[str, str, dict[int, Array]]
"""Title, note, and the matrices to draw by position in the chain."""


TARGET, TOTAL = "target", "sum of components"


def network_diagram(sites: Mapping[str, Site], shown: Mapping[Group, Sequence[int]], title: str) -> Figure:
    """The target, the sum of all components and single components as networks, on one scale.

    A column of nodes per layer, inputs on the left, node 0 on top; an edge per entry of a matrix, wider and denser the
    larger its magnitude, in the colour of the input that it leaves or the output that it reaches, dashed where it is
    negative. Biases are not drawn. What is left out of large networks is said under the headline.

    Args:
        sites: the chain from input to output, each site's output the next one's input: matrix, V and U.
        shown: components that get a panel of their own, in the order to draw, by the sites in which they have a part:
            one site as a rule, several where sites are tied or a component is a mechanism across them.
        title: headline.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no site, shapes do not fit each other or a component does not exist.
    """
    chain = {site: _checked(site, parts, shown) for site, parts in sites.items()}
    widths = _widths(chain)
    nodes = [width if width <= MAX_NODES else FEW_NODES for width in widths]
    size = max(2.3, 0.62 * len(nodes)), float(np.clip(0.3 * max(nodes), 1.6, 3.2))
    drawn = _drawn(shown, _room(*size))
    with np.errstate(invalid="ignore", over="ignore"):
        panels = _panels(chain, drawn)
    limit = largest(matrix for _, _, matrices in panels for matrix in matrices.values())
    headline = "\n".join(
        [title, *_nodes_left_out(chain, widths, nodes), *_components_left_out(shown, drawn, len(sites))]
    )
    figure, axes = new_figure(headline, len(panels), *size)
    for panel, (name, note, matrices) in zip(axes, panels, strict=True):
        for position, matrix in matrices.items():
            drawn_part = matrix[: nodes[position + 1], : nodes[position]]
            _draw_edges(panel, position, drawn_part, limit, _edge_colors(position, nodes))
        _draw_nodes(panel, nodes)
        describe(panel, name, note, "", "")
    _add_legend(figure, limit)
    return say(figure, "; ".join([title, *(_in_words(panel) for panel in panels[: 2 + MOST_NAMED])]))


def _in_words(panel: Panel) -> str:
    """A panel's name, and the inputs and outputs that its largest edges leave and reach."""
    name, note, matrices = panel
    if name in (TARGET, TOTAL):
        return f"{name} {note}".strip()
    ends = []
    for matrix in matrices.values():
        row, column = np.unravel_index(np.nan_to_num(np.abs(matrix)).argmax(), matrix.shape)
        ends.append(f"{column} to {row}")
    return f"{name}, largest edge from node {', then '.join(ends)}"


def _checked(site: str, parts: Site, shown: Mapping[Group, Sequence[int]]) -> Factors:
    """Arrays of a site's matrix, V and U, once they fit."""
    factors = checked_factors(f"sites[{site!r}]", [f"sites[{site!r}] {name}" for name in ("weight", "V", "U")], *parts)
    for group in (group for group in shown if site in group):
        check_shown(f"shown[{group!r}]", shown[group], factors.read.shape[1])
    return factors


def _widths(chain: Mapping[str, Factors]) -> list[int]:
    """Number of nodes of every column."""
    if not chain:
        raise ValueError(f"sites must not be empty, got {dict(chain)}")
    shapes = [factors.weight.shape for factors in chain.values()]
    for before, after in pairwise(shapes):
        if before[0] != after[1]:
            raise ValueError(f"sites must form a chain, but {before[0]} outputs are followed by {after[1]} inputs")
    return [shapes[0][1], *(rows for rows, _ in shapes)]


def _room(width: float, height: float) -> int:
    """How many components fit beside the target and the sum."""
    panels = max(1, int(MAX_WIDTH // width)) * int(MAX_HEIGHT // (height + 0.95))
    return min(MAX_COMPONENTS, panels - 2)


def _drawn(shown: Mapping[Group, Sequence[int]], room: int) -> dict[Group, list[int]]:
    """The components that fit, taken from the groups in turn."""
    turns = [(turn, group) for group, components in shown.items() for turn in range(len(components))]
    first = sorted(turns, key=lambda pair: pair[0])[:room]  # a stable sort: groups stay in order within a turn
    return {group: list(shown[group][: sum(other == group for _, other in first)]) for group in shown}


def _panels(chain: Mapping[str, Factors], drawn: Mapping[Group, Sequence[int]]) -> list[Panel]:
    """What each panel shows."""
    targets = {position: factors.weight for position, factors in enumerate(chain.values())}
    sums = {position: factors.total() for position, factors in enumerate(chain.values())}
    misfit = max(np.abs(targets[position] - total).max(initial=0) for position, total in sums.items())
    panels: list[Panel] = [(TARGET, "", targets), (TOTAL, f"largest error {misfit:.2g}", sums)]
    return panels + [_panel(chain, group, component) for group in drawn for component in drawn[group]]


def _panel(chain: Mapping[str, Factors], group: Group, component: int) -> Panel:
    """A component, wherever it has a part."""
    parts = {
        place: factors.component(component) for place, (site, factors) in enumerate(chain.items()) if site in group
    }
    norm = np.sqrt(sum(np.square(part).sum() for part in parts.values()))
    whole = len(group) == len(chain) > 1
    name = f"component {component}" if whole else f"{', '.join(group)}: component {component}"
    return name, f"norm {norm:.3g}", parts


def _nodes_left_out(chain: Mapping[str, Factors], widths: Sequence[int], nodes: Sequence[int]) -> list[str]:
    """A line on the nodes that are not drawn, with the largest magnitude among their edges; none if all are."""
    columns = zip(nodes, widths, _columns(len(widths)), strict=True)
    wide = [f"{some} of {width} {name}" for some, width, name in columns if some < width]
    if not wide:
        return []
    ends = zip(chain.values(), nodes[1:], nodes, strict=False)
    hidden = [matrix for (weight, _, _), rows, columns in ends for matrix in (weight[rows:], weight[:, columns:])]
    most = max(np.max(np.abs(matrix), initial=0) for matrix in hidden)
    return [f"(first {', '.join(wide)}; the target's edges to the others are at most {most:.2g})"]


def _components_left_out(
    shown: Mapping[Group, Sequence[int]], drawn: Mapping[Group, Sequence[int]], n_sites: int
) -> list[str]:
    """A line on the components that are not drawn; none if all are."""
    names = {group: "every site" if len(group) == n_sites > 1 else ", ".join(group) for group in drawn}
    short = [group for group in drawn if len(drawn[group]) < len(shown[group])]
    fewer = [f"{len(drawn[group])} of {len(shown[group])} in {names[group]}" for group in short]
    return [f"(first components: {', '.join(fewer)})"] if fewer else []


def _columns(count: int) -> list[str]:
    """Names of the columns of nodes."""
    hidden = ["hidden"] if count == 3 else [f"hidden {index}" for index in range(1, count - 1)]
    return ["inputs", *hidden, "outputs"]


def _heights(count: int) -> Array:
    """Where the nodes of a column lie, the first one on top."""
    heights: Array = 1 - (np.arange(count) + 0.5) / max(count, 1)
    return heights


def _edge_colors(position: int, nodes: Sequence[int]) -> tuple[int, Array]:
    """Whether rows (0) or columns (1) of a matrix give its edges their colours, and those, ``[nodes, RGBA]``."""
    last = len(nodes) - 2
    end = 0 if position == last > 0 else 1
    count = nodes[position + 1 - end]
    return end, to_rgba_array(list(feature_colors(count)) if position in (0, last) else [INNER] * count)


def _draw_edges(axes: Axes, position: int, matrix: Array, limit: float, by_end: tuple[int, Array]) -> None:
    """A line per entry that is large enough, the largest on top."""
    share = np.nan_to_num(np.abs(matrix) / limit, posinf=0.0)
    order = np.argsort(share, axis=None)
    ends = np.unravel_index(order[share.ravel()[order] >= INVISIBLE], matrix.shape)
    to, start = (
        np.stack([np.full(len(side), place), _heights(count)[side]], axis=1)
        for side, place, count in zip(ends, (position + 1, position), matrix.shape, strict=True)
    )
    strengths, (end, palette) = share[ends], by_end
    colors = palette[ends[end]]
    colors[:, 3] = 0.35 + 0.65 * strengths
    styles = [DASHED if negative else "solid" for negative in matrix[ends] < 0]
    widths = np.interp(strengths, (0, 1), WIDTHS)
    lines = list(np.stack([start, to], axis=1))
    axes.add_collection(LineCollection(lines, linewidths=widths, colors=colors, linestyles=styles, zorder=1))


def _draw_nodes(axes: Axes, nodes: Sequence[int]) -> None:
    """Columns of circles, numbered while there is room, and their names below."""
    for position, count in enumerate(nodes):
        heights, numbered = _heights(count), count <= NUMBERED
        outer = position in (0, len(nodes) - 1)
        colors = [to_hex(color) for color in (feature_colors(count) if outer else [INNER] * count)]
        places, size = np.full(count, position), 100.0 if numbered else 9.0
        axes.scatter(places, heights, size, facecolors="white", edgecolors=colors, linewidths=1.2, zorder=2)
        for index in range(count) if numbered else ():
            axes.text(position, heights[index], str(index), ha="center", va="center_baseline", fontsize=6, zorder=3)
    axes.set(xlim=(-0.2, len(nodes) - 0.8), ylim=(-0.02, 1.02), yticks=[])
    axes.set_xticks(range(len(nodes)), _columns(len(nodes)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _add_legend(figure: Figure, limit: float) -> None:
    """What dashes, colour and width mean."""
    positive = Line2D([], [], color=INNER, linewidth=1.6, label="positive")
    negative = Line2D([], [], color=INNER, linewidth=1.6, linestyle=DASHED, label="negative")
    title = f"colour: input or output; widest {limit:.3g}, edges below {INVISIBLE:.0%} of it not drawn"
    figure.legend(
        handles=[positive, negative],
        title=title,
        title_fontsize=TICK_SIZE,
        fontsize=TICK_SIZE,
        loc="outside lower center",
        ncols=2,
    )
