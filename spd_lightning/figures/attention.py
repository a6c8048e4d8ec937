"""Where attention heads look."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import SEQUENTIAL, add_color_bar, describe, draw_table, new_figure, say, to_arrays


def attention_patterns(patterns: Mapping[str, Mapping[str, Tensor]], tokens: list[str]) -> Figure:
    """Attention of every head on one sequence, a row of panels for each way to run the network.

    Args:
        patterns: by way, such as "the target", and head, ``[length, length]``: how far the row's position looks at the
            column's.
        tokens: of the sequence.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no way, or a pattern is not a matrix.
    """
    flat = {f"{way}\nhead {head}": table for way, heads in patterns.items() for head, table in heads.items()}
    arrays = to_arrays("patterns", flat, "length", "length")
    columns = max(len(heads) for heads in patterns.values())
    figure, axes = new_figure("Attention of every head on one sequence", len(arrays), 2.6, 2.4, columns)
    for panel, (title, array) in zip(axes, arrays.items(), strict=True):
        draw_table(panel, array, SEQUENTIAL, (0, 1))
        panel.set_xticks(range(len(tokens)), tokens)
        panel.set_yticks(range(len(tokens)), tokens)
        describe(panel, title, "", "looked at", "position")
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), "attention")
    strongest = (
        f"{title.replace(chr(10), ', ')}: the last position looks most at {array[-1].argmax()} ({array[-1].max():.2f})"
        for title, array in arrays.items()
    )
    return say(figure, "; ".join(strongest))
