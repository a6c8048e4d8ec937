import numpy as np
import pytest
import torch
from matplotlib.patches import StepPatch

from spd_lightning.figures import ScrubbedErrors, scrubbing_histograms
from spd_lightning.figures.style import ACCENT, MAIN

EDGES = torch.logspace(-12, 4, 81, dtype=torch.float64)


def counted(**bins):
    """Counts of so many errors, by the number of the bin."""
    counts = torch.zeros(82, dtype=torch.long)
    for name, count in bins.items():
        counts[int(name[1:])] = count
    return counts


def view(kept=None, ablated=None, unmasked=1e-6, zero=0.2):
    """Errors of 1e-6 to 1e-4 where what is important stays, of 0.1 where it goes, and some that are zero."""
    kept = counted(_0=30, _31=500, _40=70) if kept is None else kept
    return ScrubbedErrors(kept, counted(_0=6, _56=594) if ablated is None else ablated, unmasked, zero)


def drawn(axes, color):
    """Counts and edges of the filled steps of a colour."""
    patches = [p for p in axes.patches if isinstance(p, StepPatch) and p.get_fill()]
    (patch,) = [p for p in patches if p.get_facecolor()[:3] == pytest.approx(tuple(_rgb(color)))]
    return patch.get_data()


def _rgb(color):
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


@pytest.mark.parametrize("n_views", [1, 2, 3])
def test_renders_at_every_size(n_views, render):
    figure = scrubbing_histograms({f"view {i}": view() for i in range(n_views)}, EDGES)
    render(figure)
    assert len(figure.axes) == n_views


@pytest.mark.parametrize("scale", [2.0, 10.0, 1000.0])
@pytest.mark.parametrize("n_edges", [1, 2, 5, 60])
def test_renders_with_any_edges(n_edges, scale, render):
    edges = 3e-20 * scale ** torch.arange(n_edges, dtype=torch.float64)[: int(40 / np.log10(scale))]
    counts = torch.arange(len(edges) + 1)
    figure = scrubbing_histograms({"a": ScrubbedErrors(counts, counts.flip(0), 1e-9, 3.0)}, edges)
    render(figure)
    for color in (MAIN, ACCENT):
        values, limits, _ = drawn(figure.axes[0], color)
        assert values.sum() == counts.sum(), "every draw is in a bin"
        assert (np.diff(limits) > 0).all()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_renders_nothing_and_not_a_number(value, render):
    nothing = torch.full((82,), value)
    figure = scrubbing_histograms({"a": ScrubbedErrors(nothing, nothing, value, float("inf"))}, EDGES)
    render(figure)
    assert "no errors" in figure.axes[0].get_title()


@pytest.mark.parametrize("bin_", [0, 1, 40, 80, 81])
def test_renders_where_all_errors_are_alike(bin_, render):
    counts = counted(**{f"_{bin_}": 7})
    figure = scrubbing_histograms({"a": ScrubbedErrors(counts, counts, 0.0, 0.0)}, EDGES)
    render(figure)
    for color in (MAIN, ACCENT):
        values, limits, _ = drawn(figure.axes[0], color)
        (place,) = np.flatnonzero(values)
        assert values[place] == 7
        if 0 < bin_ < 81:
            np.testing.assert_allclose(limits[place : place + 2], EDGES[bin_ - 1 : bin_ + 1], rtol=1e-9)
        else:
            assert place == (0 if bin_ == 0 else len(values) - 1)


def test_shows_both_kinds_of_draws_over_the_range_in_use(render):
    figure = scrubbing_histograms({"one-hot probes": view()}, EDGES)
    render(figure)
    (axes,) = figure.axes
    for color, expected in ((MAIN, view().kept), (ACCENT, view().ablated)):
        counts, edges, baseline = drawn(axes, color)
        first = np.flatnonzero(np.isclose(EDGES, edges[1]))[0]
        assert edges[1] == pytest.approx(1e-7)  # a decade below the smallest line, empty bins before it are left out
        np.testing.assert_array_equal(counts[1:-1], expected[first + 1 : first + len(edges) - 2])
        np.testing.assert_allclose(edges[1:-1], EDGES[first : first + len(edges) - 2])
        assert counts.sum() == expected.sum() == 600
        assert counts[0] == expected[0]
        assert 0 < baseline == axes.get_ylim()[0] < 1
    assert edges[-2] == pytest.approx(1.0)  # the end of the decade of the largest error
    np.testing.assert_allclose(axes.get_xlim(), edges[[0, -2]])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_ylim()[1] > 594


def test_zeros_are_a_labelled_bin():
    (axes,) = scrubbing_histograms({"a": view()}, EDGES).axes
    low, high = drawn(axes, MAIN)[1][:2]
    labels = {tick.get_loc(): tick.label1.get_text() for tick in axes.xaxis.get_major_ticks()}
    (label,) = [text for place, text in labels.items() if low < place < high]
    assert label == "0 to\n$10^{-12}$"
    assert "in the lowest bin: kept 5.0%, ablated 1.0%" in axes.get_title()
    assert not any("from" in text for text in labels.values())


def test_errors_beyond_the_last_edge_are_a_labelled_bin(render):
    figure = scrubbing_histograms({"a": view(ablated=counted(_56=594, _81=6))}, EDGES)
    render(figure)
    (axes,) = figure.axes
    counts, edges, _ = drawn(axes, ACCENT)
    assert counts[-1] == 6
    assert axes.get_xlim()[1] == edges[-1] > edges[-2] == pytest.approx(1e4)
    assert axes.get_xticklabels()[-1].get_text() == "from\n$10^{4}$"


@pytest.mark.parametrize(
    ("value", "place"),
    [(3e-5, 3e-5), (1e-9, 1e-9), (0.0, "lowest"), (1e-13, "lowest"), (1e7, "highest"), (float("inf"), "highest")],
)
def test_errors_to_compare_with_are_lines(value, place, render):
    figure = scrubbing_histograms({"a": view(unmasked=value, zero=0.25)}, EDGES)
    render(figure)
    (axes,) = figure.axes
    found = [line.get_xdata()[0] for line in axes.lines]
    edges = drawn(axes, MAIN)[1]
    if isinstance(place, str):
        low, high = edges[:2] if place == "lowest" else edges[-2:]
        assert low < found[0] < high
        assert axes.get_xlim()[0] <= found[0] <= axes.get_xlim()[1]
    else:
        assert found[0] == place
    assert found[1] == 0.25
    assert f"all on {value:.2e}, all ablated 2.50e-01" in axes.get_title()


def test_everything_is_named():
    figure = scrubbing_histograms({"one-hot probes": view(), "test examples": view()}, EDGES)
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["one-hot probes", "test examples"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"squared error, mean over outputs (log)"}
    assert {axes.get_ylabel() for axes in figure.axes} == {"errors per bin (log)"}
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "important components kept",
        "important components ablated",
        "all components on",
        "all components ablated",
    ]


def test_views_share_their_axes():
    few = ScrubbedErrors(counted(_20=2), counted(_30=2), 0.0, 0.0)
    first, second = scrubbing_histograms({"a": view(), "b": few}, EDGES).axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()


def test_refuses_no_view():
    with pytest.raises(ValueError, match=r"^views must not be empty, got \{\}$"):
        scrubbing_histograms({}, EDGES)


def test_refuses_counts_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^views\['a'\] must have 82 bins, got \[3, 82\]$"):
        scrubbing_histograms({"a": view(kept=torch.ones(3))}, EDGES)
