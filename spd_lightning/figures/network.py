"""A chain of sites as a network of nodes and weighted edges (Figures 2 to 4 of the SPD paper)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from spd_lightning.figures.factors import Factors, checked_factors
from spd_lightning.figures.style import (
    ACCENT,
    MAIN,
    MAX_WIDTH,
    TICK_SIZE,
    Array,
    describe,
    largest,
    new_figure,
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

INVISIBLE = 0.02
"""Edges below this share of the widest one are not drawn."""

WIDTHS = 0.4, 2.6
"""Width of an edge in points, from magnitude 0 to the largest one."""

Site = tuple[Tensor, Tensor, Tensor]
"""The target's matrix ``[d_out, d_in]``, V ``[d_in, C]`` and U ``[C, d_out]``, or with a rank, ``[d_in, C, m]`` ..."""

EVERY_SITE = "every site"
"""In place of a site's name, for components that span all of them."""

Panel = tuple[str, str, dict[int, Array]]
"""Title, note, and the matrices to draw by position in the chain."""


def network_diagram(sites: Mapping[str, Site], shown: Mapping[str, Sequence[int]], title: str) -> Figure:
    """The target, the sum of all components and single components as networks, on one scale.

    A column of nodes per layer, inputs on the left, node 0 on top; an edge per entry of a matrix, wider and denser the
    larger its magnitude, red where it is positive, blue where negative. Biases are not drawn. What is left out of
    large networks is said under the headline.

    Args:
        sites: the chain from input to output, each site's output the next one's input: matrix, V and U.
        shown: per site the components that get a panel of their own, in the order to draw; under :data:`EVERY_SITE`
            alone those that have a part in every site.
        title: headline.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no site, shapes do not fit each other or a component does not exist.
    """
    together = shown.get(EVERY_SITE, ())
    chain = {site: _checked(site, parts, together or shown.get(site, ())) for site, parts in sites.items()}
    widths = _widths(chain)
    nodes = [width if width <= MAX_NODES else FEW_NODES for width in widths]
    size = max(2.3, 0.62 * len(nodes)), float(np.clip(0.3 * max(nodes), 1.6, 3.2))
    wanted = {EVERY_SITE: list(together)} if together else {site: list(shown.get(site, ())) for site in sites}
    drawn = _drawn(wanted, _room(*size))
    with np.errstate(invalid="ignore", over="ignore"):
        panels = _panels(chain, drawn)
    limit = largest(matrix for _, _, matrices in panels for matrix in matrices.values())
    headline = "\n".join([title, *_nodes_left_out(chain, widths, nodes), *_components_left_out(wanted, drawn)])
    figure, axes = new_figure(headline, len(panels), *size)
    for panel, (name, note, matrices) in zip(axes, panels, strict=True):
        for position, matrix in matrices.items():
            _draw_edges(panel, position, matrix[: nodes[position + 1], : nodes[position]], limit)
        _draw_nodes(panel, nodes)
        describe(panel, name, note, "", "")
    _add_legend(figure, limit)
    return figure


def _checked(site: str, parts: Site, shown: Sequence[int]) -> Factors:
    """Arrays of a site's matrix, V and U, once they fit."""
    factors = checked_factors(f"sites[{site!r}]", [f"sites[{site!r}] {name}" for name in ("weight", "V", "U")], *parts)
    count = factors.read.shape[1]
    if any(not 0 <= component < count for component in shown):
        raise ValueError(f"shown[{site!r}] must hold components below {count}, got {list(shown)}")
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


def _drawn(shown: Mapping[str, list[int]], room: int) -> dict[str, list[int]]:
    """The components that fit, taken from the sites in turn."""
    turns = [(turn, site) for site, components in shown.items() for turn in range(len(components))]
    first = sorted(turns, key=lambda pair: pair[0])[:room]  # a stable sort: sites stay in order within a turn
    return {site: shown[site][: sum(other == site for _, other in first)] for site in shown}


def _panels(chain: Mapping[str, Factors], drawn: Mapping[str, list[int]]) -> list[Panel]:
    """What each panel shows."""
    targets = {position: factors.weight for position, factors in enumerate(chain.values())}
    sums = {position: factors.total() for position, factors in enumerate(chain.values())}
    misfit = max(np.abs(targets[position] - total).max(initial=0) for position, total in sums.items())
    panels: list[Panel] = [("target", "", targets), ("sum of components", f"largest error {misfit:.2g}", sums)]
    if EVERY_SITE in drawn:
        return panels + [_spanning_panel(chain, component) for component in drawn[EVERY_SITE]]
    for position, (site, factors) in enumerate(chain.items()):
        for component in drawn[site]:
            part = factors.component(component)
            panels.append((f"{site}: component {component}", f"norm {np.linalg.norm(part):.3g}", {position: part}))
    return panels


def _spanning_panel(chain: Mapping[str, Factors], component: int) -> Panel:
    """A component that has a matrix in every site."""
    parts = {position: factors.component(component) for position, factors in enumerate(chain.values())}
    norm = np.sqrt(sum(np.square(part).sum() for part in parts.values()))
    return f"component {component}", f"norm {norm:.3g}", parts


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


def _components_left_out(shown: Mapping[str, Sequence[int]], drawn: Mapping[str, Sequence[int]]) -> list[str]:
    """A line on the components that are not drawn; none if all are."""
    fewer = [f"{len(drawn[site])} of {len(shown[site])} in {site}" for site in drawn if drawn[site] != shown[site]]
    return [f"(first components: {', '.join(fewer)})"] if fewer else []


def _columns(count: int) -> list[str]:
    """Names of the columns of nodes."""
    hidden = ["hidden"] if count == 3 else [f"hidden {index}" for index in range(1, count - 1)]
    return ["inputs", *hidden, "outputs"]


def _heights(count: int) -> Array:
    """Where the nodes of a column lie, the first one on top."""
    heights: Array = 1 - (np.arange(count) + 0.5) / max(count, 1)
    return heights


def _draw_edges(axes: Axes, position: int, matrix: Array, limit: float) -> None:
    """A line per entry that is large enough, the largest on top."""
    share = np.nan_to_num(np.abs(matrix) / limit, posinf=0.0)
    order = np.argsort(share, axis=None)
    rows, columns = np.unravel_index(order[share.ravel()[order] >= INVISIBLE], matrix.shape)
    starts = np.stack([np.full(len(rows), position), _heights(matrix.shape[1])[columns]], axis=1)
    ends = np.stack([np.full(len(rows), position + 1), _heights(matrix.shape[0])[rows]], axis=1)
    strengths = share[rows, columns]
    colors = np.array([to_rgba(ACCENT), to_rgba(MAIN)])[(matrix[rows, columns] < 0).astype(int)]
    colors[:, 3] = 0.15 + 0.85 * strengths
    widths = np.interp(strengths, (0, 1), WIDTHS)
    axes.add_collection(
        LineCollection(list(np.stack([starts, ends], axis=1)), linewidths=widths, colors=colors, zorder=1)
    )


def _draw_nodes(axes: Axes, nodes: Sequence[int]) -> None:
    """Columns of circles, numbered while there is room, and their names below."""
    for position, count in enumerate(nodes):
        heights, numbered = _heights(count), count <= NUMBERED
        size = 10.0 if numbered else 3.0
        axes.plot(
            np.full(count, position), heights, "o", color="0.4", markerfacecolor="white", markersize=size, zorder=2
        )
        for index in range(count) if numbered else ():
            axes.text(position, heights[index], str(index), ha="center", va="center_baseline", fontsize=6, zorder=3)
    axes.set(xlim=(-0.2, len(nodes) - 0.8), ylim=(-0.02, 1.02), yticks=[])
    axes.set_xticks(range(len(nodes)), _columns(len(nodes)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _add_legend(figure: Figure, limit: float) -> None:
    """What colour and width mean."""
    names = (ACCENT, "positive"), (MAIN, "negative")
    handles = [Line2D([], [], color=color, linewidth=WIDTHS[1], label=name) for color, name in names]
    title = f"widest {limit:.3g}, edges below {INVISIBLE:.0%} of it not drawn"
    figure.legend(
        handles=handles, title=title, title_fontsize=TICK_SIZE, fontsize=TICK_SIZE, loc="outside lower center", ncols=2
    )
