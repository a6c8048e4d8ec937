"""Which components an output needs, and at which positions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    MOST_NAMED,
    SEQUENTIAL,
    Array,
    add_color_bar,
    describe,
    draw_table,
    label_components,
    literal,
    new_figure,
    say,
    table_size,
    to_arrays,
)

MOST_LABELLED = 40
"""Positions that are labelled with their tokens."""


def circuit_maps(
    circuits: Mapping[str, Mapping[str, Tensor]], rows: Sequence[str], row: str = "position", about: str = ""
) -> Figure:
    """Importances of the nodes of circuits, a panel for each site call and circuit.

    Components that are in none of the circuits are left out, and so are site calls without any.

    Args:
        circuits: by name, importances ``[rows, C]`` by site call; site calls whose rows are others than the labelled
            ones are numbered.
        rows: labels of the rows, such as tokens; drawn as they are, whatever signs they hold.
        row: what a row is.
        about: what the circuits are for; part of the headline.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no circuit, or importances are no matrix.
    """
    arrays = {name: to_arrays(name, tables, "rows", "C") for name, tables in circuits.items()}
    first = next(iter(arrays.values()))
    columns = {call: _columns([tables[call] for tables in arrays.values()]) for call in first}
    drawn = [call for call, some in columns.items() if some] or list(first)[:1]
    panels = [(call, name) for call in drawn for name in arrays]
    widest, tallest = max(len(columns[call]) for call in drawn), max(len(first[call]) for call in drawn)
    width, height = table_size(tallest, widest, widest=4.8)
    across = len(arrays) * max(1, int(12 // (len(arrays) * width)))
    title = f"Nodes of circuits{': ' if about else ''}{literal(about)}"
    figure, axes = new_figure(title, len(panels), width, height, min(across, len(panels)))
    for panel, (call, name) in zip(axes, panels, strict=True):
        array = arrays[name][call][:, columns[call]]
        draw_table(panel, array, SEQUENTIAL, (0, 1))
        if array.size:
            label_components(panel, columns[call])
            if len(rows) == len(array) <= MOST_LABELLED:
                panel.set_yticks(range(len(rows)), [literal(label) for label in rows])
        describe(panel, f"{call}\n{name}", f"nodes: {int((array > 0).sum())}", "component (index)", row)
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), "importance")
    return say(figure, "; ".join(_in_words(name, tables) for name, tables in arrays.items()))


def _columns(tables: Sequence[Array]) -> list[int]:
    """Components that are in any of the circuits."""
    return [int(number) for number in np.flatnonzero(sum((table > 0).any(0) for table in tables))]


def _in_words(name: str, tables: Mapping[str, Array]) -> str:
    counts = {call: int((table > 0).sum()) for call, table in tables.items()}
    largest = sorted((call for call, count in counts.items() if count), key=lambda call: -counts[call])[:MOST_NAMED]
    return f"{name}: {sum(counts.values())} nodes; " + ", ".join(f"{call} {counts[call]}" for call in largest)
