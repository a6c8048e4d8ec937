"""What is drawn of an attribution graph, read back from the figure."""

import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from spd_lightning.figures import Drawn, attribution_diagram
from spd_lightning.figures.style import ACCENT, MAIN

PLAIN = Drawn(
    columns=["embed", "fc1", "output"],
    rows=["0 'a'", "1 'b'"],
    column=np.array([0, 0, 1, 1, 1, 2]),
    row=np.array([0, 1, 1, 1, 0, 1]),
    labels=["5", "7", "2", "3", "rest", "'x'"],
    kinds=["input", "input", "component", "component", "rest", "output"],
    source=np.array([0, 1, 2, 4]),
    target=np.array([2, 3, 5, 5]),
    strength=np.array([0.2, -0.4, 0.8, -0.1]),
    said=["+80%  fc1:2 -> output"],
)
HOSTILE = ["$x^$", "<script>alert(1)</script>", "a & b -- c", "\x00\n\t", "日本", "\ud800", "]]>", "\\frac{", "$$", ""]


def _boxes(axes):
    return [
        (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2)
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    ]


def test_nodes_stand_in_columns_and_rows_and_edges_lead_between_them():
    figure = attribution_diagram(PLAIN, "a title")
    (axes,) = figure.axes
    boxes = _boxes(axes)
    assert [x for x, _ in boxes] == pytest.approx([0, 0, 1, 1, 1, 2])
    # row 0 is one line, row 1 two, for the two components in one place
    assert [y for _, y in boxes] == pytest.approx([0.5, 2.0, 1.5, 2.5, 0.5, 2.0])
    (edges,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    ends = {(round(line[0][1], 3), round(line[-1][1], 3)): number for number, line in enumerate(edges.get_segments())}
    widths = {key: float(edges.get_linewidths()[number]) for key, number in ends.items()}
    colors = {key: to_rgb(edges.get_colors()[number]) for key, number in ends.items()}
    assert set(ends) == {(0.5, 1.5), (2.0, 2.5), (1.5, 2.0), (0.5, 2.0)}
    assert widths[1.5, 2.0] > widths[2.0, 2.5] > widths[0.5, 1.5] > widths[0.5, 2.0]
    assert colors[1.5, 2.0] == to_rgb(MAIN) == colors[0.5, 1.5]
    assert colors[2.0, 2.5] == to_rgb(ACCENT) == colors[0.5, 2.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["embed", "fc1", "output"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0 'a'", "1 'b'"]
    assert figure.get_label() == "+80%  fc1:2 -> output"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_text_whatever_it_is(text):
    drawn = replace(PLAIN, labels=[text] * 6, rows=[text] * 2, columns=[text] * 3, note=text, said=[text])
    file = io.BytesIO()
    figure = attribution_diagram(drawn, text)
    figure.savefig(file, format="svg", metadata={"Description": figure.get_label()})

    markup = file.getvalue().decode()
    ElementTree.fromstring(markup)  # well formed
    assert "<script" not in markup
    shown = {label.get_text() for label in figure.axes[0].texts}
    assert len(shown) == 1
    assert shown.pop() == {"\x00\n\t": r"\x00\n\t", "日本": r"\u65e5\u672c", "\ud800": r"\ud800"}.get(text, text)[
        :13
    ] + ("…" if len(text) > 14 else "")


def test_a_graph_of_any_size_is_drawn():
    many = 400
    drawn = Drawn(
        columns=[f"layer {number}" for number in range(40)],
        rows=[str(number) for number in range(100)],
        column=np.arange(many) % 40,
        row=np.arange(many) % 100,
        labels=[""] * many,
        kinds=["component"] * many,
        source=np.arange(many - 40),
        target=np.arange(40, many),
        strength=np.zeros(many - 40),
    )
    figure = attribution_diagram(drawn, "large")
    assert max(figure.get_size_inches()) <= 62
    assert len(_boxes(figure.axes[0])) == many


def test_one_node_is_drawn_and_none_is_refused():
    none = np.empty(0, dtype=np.int64)
    one = Drawn(["output"], [""], np.array([0]), np.array([0]), ["0"], ["output"], none, none, np.empty(0))
    assert len(_boxes(attribution_diagram(one, "one").axes[0])) == 1
    with pytest.raises(ValueError, match="without nodes"):
        attribution_diagram(replace(one, labels=[]), "none")
