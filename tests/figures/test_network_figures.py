from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from spd_lightning.figures import network_diagram
from spd_lightning.figures.network import INNER
from spd_lightning.figures.style import CATEGORIES


def chain(*widths, n_components=30):
    """Random sites, each reading the one before."""
    return {
        f"linear{index}": (
            torch.randn(after, before),
            torch.randn(before, n_components),
            torch.randn(n_components, after),
        )
        for index, (before, after) in enumerate(pairwise(widths))
    }


def edges(axes):
    """From the ends of every edge to its colour and width."""
    found = {}
    for lines in _lines(axes):
        drawn = zip(lines.get_segments(), lines.get_colors(), lines.get_linewidths(), strict=True)
        found |= {tuple(map(tuple, np.round(ends, 6))): (color, width) for ends, color, width in drawn}
    return found


def dashed(axes):
    """Ends of the edges that are dashed."""
    drawn = [zip(lines.get_segments(), lines.get_linestyles(), strict=True) for lines in _lines(axes)]
    return {tuple(map(tuple, np.round(ends, 6))) for some in drawn for ends, (_, dashes) in some if dashes is not None}


def _lines(axes):
    return [lines for lines in axes.collections if isinstance(lines, LineCollection)]


def small():
    """Two inputs, one hidden unit, one output, known by hand; component 0 is all of it, component 1 nothing."""
    first = torch.tensor([[2.0, -1.0]]), torch.tensor([[2.0, 0.0], [-1.0, 0.0]]), torch.tensor([[1.0], [0.0]])
    second = torch.tensor([[0.01]]), torch.tensor([[0.5]]), torch.tensor([[1.0]])
    return {"linear1": first, "linear2": second}


def test_edges_are_weights_by_width_and_sign(render):
    figure = network_diagram(small(), {("linear1",): [0]}, "small")
    render(figure)
    target, total, part = figure.axes
    # the output's edge of 0.01 is below 5% of the widest, 2
    assert set(edges(target)) == {((0, 0.75), (1, 0.5)), ((0, 0.25), (1, 0.5))}
    (up_color, up_width), (down_color, down_width) = (edges(target)[(0, y), (1, 0.5)] for y in (0.75, 0.25))
    assert (to_hex(up_color), to_hex(down_color)) == (CATEGORIES[0].lower(), CATEGORIES[1].lower())
    assert dashed(target) == {((0, 0.25), (1, 0.5))}
    assert up_width == pytest.approx(2.6)
    assert down_width == pytest.approx(0.4 + 2.2 / 2)
    assert up_color[3] == pytest.approx(1)
    assert down_color[3] == pytest.approx(0.35 + 0.65 / 2)
    assert edges(total)[(1, 0.5), (2, 0.5)][1] == pytest.approx(0.4 + 2.2 / 4)
    assert set(edges(part)) == {((0, 0.75), (1, 0.5)), ((0, 0.25), (1, 0.5))}
    assert total.get_title() == "sum of components\nlargest error 0.49"
    assert part.get_title() == f"linear1: component 0\nnorm {5**0.5:.3g}"
    assert "widest 2, edges below 5% of it not drawn" in figure.legends[0].get_title().get_text()


def test_a_component_is_drawn_where_its_site_is():
    figure = network_diagram(chain(5, 2, 5, n_components=8), {("linear0",): [7, 3], ("linear1",): [3]}, "TMS")
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes]
    assert titles == [
        "target",
        "sum of components",
        "linear0: component 7",
        "linear0: component 3",
        "linear1: component 3",
    ]
    starts = [{start[0] for start, _ in edges(axes)} for axes in figure.axes]
    assert starts == [{0, 1}, {0, 1}, {0}, {0}, {1}]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["inputs", "hidden", "outputs"]
        assert [text.get_text() for text in axes.texts] == ["0", "1", "2", "3", "4", "0", "1", "0", "1", "2", "3", "4"]
    assert figure.get_suptitle() == "TMS"


def test_a_component_of_several_sites_has_one_panel_and_edges_in_each(render):
    sites = chain(5, 2, 2, 5)
    figure = network_diagram(sites, {("linear0", "linear2"): [4], tuple(sites): [2]}, "tied")
    render(figure)
    pair, whole = figure.axes[2:]
    assert pair.get_title().startswith("linear0, linear2: component 4\nnorm ")
    assert whole.get_title().startswith("component 2\nnorm ")
    assert {start[0] for start, _ in edges(pair)} == {0, 2}
    assert {start[0] for start, _ in edges(whole)} == {0, 1, 2}


def test_an_edge_has_the_colour_of_its_input_or_output_and_inner_ones_are_grey():
    (target, _) = network_diagram(chain(3, 2, 2, 4), {}, "colours").axes
    heights = {count: [round(1 - (index + 0.5) / count, 6) for index in range(count)] for count in (3, 4)}
    for (start, end), (color, _) in edges(target).items():
        if start[0] == 0:
            assert to_hex(color) == CATEGORIES[heights[3].index(start[1])].lower()
        elif end[0] == 3:
            assert to_hex(color) == CATEGORIES[heights[4].index(end[1])].lower()
        else:
            assert to_hex(color) == to_hex(INNER)


def test_says_in_words_what_a_component_connects():
    said = network_diagram(small(), {("linear1",): [0]}, "small").get_label()
    assert said.startswith("small; target; sum of components largest error 0.49; ")
    assert said.endswith("; linear1: component 0, largest edge from node 0 to 0")


@pytest.mark.parametrize("widths", [(5, 2, 2, 5), (40, 10, 40), (1, 1), (1000, 50, 1000), (2,) * 8, (50,) * 27])
def test_renders_at_every_size_within_a_page(widths, render):
    sites = chain(*widths)
    figure = network_diagram(sites, {(site,): list(range(30)) for site in sites}, "a chain")
    render(figure)
    target, total, *parts = figure.axes
    assert parts
    columns = len(widths) - 1
    for axes in (target, total):
        assert {start[0] for start, _ in edges(axes)} == set(range(columns)), "a layer without edges"
    for axes in parts:
        layer = int(axes.get_title().partition(":")[0].removeprefix("linear"))
        assert {(start[0], end[0]) for start, end in edges(axes)} <= {(layer, layer + 1)}
    assert any(edges(axes) for axes in parts)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e300])
def test_renders_constant_and_diverged_components(value, render):
    few = chain(5, 2, 5, n_components=3)
    sites = {name: (weight, torch.full_like(V.double(), value), U) for name, (weight, V, U) in few.items()}
    figure = network_diagram(sites, {("linear0",): [0]}, "a title that is too long for one line " * 8)
    render(figure)
    target, total, part = figure.axes
    assert part.get_title().startswith("linear0: component 0\n")
    if value == 0:
        assert len(edges(target)) > 10
        assert not edges(total)
        assert not edges(part)
    elif np.isfinite(value):  # against 1e300 the target's weights are nothing
        assert not edges(target)
        assert edges(part)
    else:
        assert len(edges(target)) > 10


def test_without_a_live_component_target_and_sum_remain(render):
    figure = network_diagram(chain(3, 3), {}, "idle")
    render(figure)
    assert len(figure.axes) == 2


def test_says_which_components_are_left_out():
    sites = chain(5, 2, 2, 5)
    shown = {("linear0",): list(range(25)), ("linear1",): [4, 2], ("linear2",): list(range(30))}
    figure = network_diagram(sites, shown, "many")
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes[2:]]
    assert titles == [
        *(f"linear0: component {index}" for index in range(9)),
        *("linear1: component 4", "linear1: component 2"),
        *(f"linear2: component {index}" for index in range(9)),
    ]
    assert figure.get_suptitle() == "many\n(first components: 9 of 25 in linear0, 9 of 30 in linear2)"


def test_says_which_nodes_are_left_out_and_how_much_they_weigh():
    sites = chain(50, 3, 40)
    weight = sites["linear0"][0].zero_()
    weight[1, 12], weight[0, 11] = -7.5, 9.0
    figure = network_diagram(sites, {}, "wide")
    expected = "wide (first 12 of 50 inputs; the target's edges to the others are at most 7.5)"
    assert figure.get_suptitle().replace("\n", " ") == expected
    heights = {start[1] for start, _ in edges(figure.axes[1]) if start[0] == 0}
    assert len(heights) == 12
    assert len({end[1] for start, end in edges(figure.axes[1]) if start[0] == 1}) == 40


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^sites must not be empty, got \{\}$"):
        network_diagram({}, {}, "")


def test_refuses_what_is_no_chain():
    sites = {"a": chain(5, 2)["linear0"], "b": chain(3, 5)["linear0"]}
    with pytest.raises(ValueError, match="sites must form a chain, but 2 outputs are followed by 3 inputs"):
        network_diagram(sites, {}, "")


def test_refuses_shapes_that_do_not_fit():
    parts = torch.zeros(2, 5), torch.zeros(4, 3), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"sites\['a'\] must be .* got \[2, 5\], \[4, 3\] and \[3, 2\]"):
        network_diagram({"a": parts}, {}, "")


def test_refuses_components_that_do_not_exist():
    with pytest.raises(ValueError, match=r"shown\[\('linear0',\)\] must hold components below 30, got \[0, 30\]"):
        network_diagram(chain(5, 2), {("linear0",): [0, 30]}, "")
