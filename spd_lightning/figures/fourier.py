"""Which waves components are made of."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import (
    LABEL_SIZE,
    SEQUENTIAL,
    add_color_bar,
    check_shown,
    describe,
    draw_table,
    label_ticks,
    new_figure,
    say,
    to_arrays,
)


def fourier_spectra(
    spectra: Mapping[str, Tensor],
    shown: Mapping[str, Sequence[int]],
    notes: Mapping[str, str],
    columns: int | None = None,
) -> Figure:
    """Share of every frequency in the squared length of vectors, a row each, one panel per set of vectors.

    A wave is one bright cell in its row; a single number has all frequencies alike. Colours are fixed to [0, 1].

    Args:
        spectra: ``[n, frequencies]`` by title, frequency 0 first.
        shown: rows to draw by title, in the order to draw.
        notes: what is written under each title.
        columns: panels per row; by default as many as fit.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no set, spectra are not a matrix or a row to draw does not exist.
    """
    arrays = to_arrays("spectra", spectra, "n", "frequencies")
    for title, rows in shown.items():
        check_shown(f"shown[{title!r}]", rows, len(arrays[title]))
    figure, axes = new_figure("Fourier spectra", len(arrays), 3.4, 3.0, columns)
    for panel, (title, array) in zip(axes, arrays.items(), strict=True):
        rows = list(shown.get(title, ()))
        draw_table(panel, array[rows], SEQUENTIAL, (0, 1))
        if rows:
            label_ticks(panel.yaxis, rows, 20)
        describe(panel, title, notes.get(title, ""), "frequency", "")
    axes[0].set_ylabel("number of the vector, sorted by frequency", fontsize=LABEL_SIZE)
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), "share of the squared length")
    return say(figure, "; ".join(f"{title}: {notes.get(title, '')}" for title in arrays))
