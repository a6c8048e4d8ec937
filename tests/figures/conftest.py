from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text


def _shown_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [label for label in labels if label.get_visible() and label.get_text()]


def _no_overlap(labels: Sequence[Text], low: str, high: str) -> None:
    boxes = [label.get_window_extent() for label in labels]
    for one, other in pairwise(sorted(boxes, key=lambda box: getattr(box, low))):
        assert getattr(other, low) >= getattr(one, high) - 1, "tick labels overlap"


def _check_layout(figure: Figure) -> None:
    """Nothing is cut off, squeezed or printed on top of a neighbour; the picture is of a size that a page can show."""
    width, height = figure.bbox.size / figure.dpi
    assert max(width, height) <= 25
    tight = figure.get_tightbbox()
    assert min(tight.x0, tight.y0) >= -0.01
    assert tight.x1 <= width + 0.01
    assert tight.y1 <= height + 0.01
    for axes in figure.axes:
        assert min(axes.bbox.size) > 10
        _no_overlap(_shown_labels(axes.xaxis), "x0", "x1")
        _no_overlap(_shown_labels(axes.yaxis), "y0", "y1")


@pytest.fixture
def render() -> Callable[[Figure], None]:
    """Draws a figure to PNG and checks what a reader would notice first."""

    def render_and_check(figure: Figure) -> None:
        out = BytesIO()
        figure.savefig(out, format="png")
        assert out.getvalue().startswith(b"\x89PNG")
        _check_layout(figure)

    return render_and_check


@pytest.fixture
def images() -> Callable[[Figure], list[AxesImage]]:
    """The heat maps of a figure, without its colour bar."""
    return lambda figure: [image for axes in figure.axes for image in axes.images]
