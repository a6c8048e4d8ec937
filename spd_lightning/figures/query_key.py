"""Which pairs of components make attention heads look how far back."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    DIVERGING,
    MOST_NAMED,
    add_color_bar,
    describe,
    draw_table,
    largest,
    literal,
    new_figure,
    say,
    table_size,
    to_arrays,
)


def query_key_maps(heads: Mapping[str, Tensor], pairs: Mapping[str, Sequence[str]], offsets: Sequence[int]) -> Figure:
    """Mean scores of pairs of components by offset, a panel for each head.

    Args:
        heads: by the head's name, ``[pairs, offsets]``: what each pair adds to scores before the softmax.
        pairs: their labels, by the head's name.
        offsets: how many positions the key stands before the query.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no head, a table is no matrix, or labels do not fit it.
    """
    arrays = to_arrays("heads", heads, "pairs", "offsets")
    if any(len(pairs[name]) != len(array) or array.shape[1] != len(offsets) for name, array in arrays.items()):
        raise ValueError("pairs and offsets must label every row and column")
    most = largest(arrays.values())
    size = table_size(max(map(len, arrays.values())), len(offsets), widest=4.8)
    figure, axes = new_figure("Pairs of query and key components by offset", len(arrays), *size)
    for panel, (name, array) in zip(axes, arrays.items(), strict=True):
        draw_table(panel, array, DIVERGING, (-most, most))
        if array.size:
            panel.set_yticks(range(len(array)), [literal(label) for label in pairs[name]])
            panel.set_xticks(range(len(offsets)), [str(offset) for offset in offsets])
        describe(panel, name, "", "positions back from query to key", "query : key")
    add_color_bar(figure, axes, DIVERGING, (-most, most), "mean score on the data")
    words = (
        f"{name}: {pairs[name][0]} strongest at offset {offsets[int(np.abs(np.nan_to_num(array[0])).argmax())]}"
        for name, array in list(arrays.items())[:MOST_NAMED]
        if array.size
    )
    return say(figure, "; ".join(words))
