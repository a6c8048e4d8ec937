import numpy as np
import pytest
import torch

from spd_lightning.figures import Outcome, importance_comparison, recovery_shares, sweep_sensitivity

RIGHT, WRONG = Outcome(True, 0, 10, 10), Outcome(False, 60, 3, 10)
HALF_DECADES = [2.4e-4, 7.6e-4, 2.4e-3, 7.6e-3, 2.4e-2]


def _curve(axes, label):
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return line


@pytest.mark.parametrize(
    "values", [HALF_DECADES, [1.0, 2.0, 3.0], [0.0], list(np.geomspace(1e-5, 1, 40)), [-1.0, 50.0]]
)
@pytest.mark.parametrize("default", [None, 0.0024, 3000.0])
def test_renders_at_every_size(values, default, render):
    figure = sweep_sensitivity("importance.coefficient", {value: [RIGHT, WRONG] for value in values}, default)
    render(figure)
    shares, counts = figure.axes
    np.testing.assert_allclose(shares.lines[0].get_xydata(), [[value, 0.5] for value in sorted(values)])
    for label, mean in (("contradictions of the pattern", 30), ("components alive", 6.5)):
        np.testing.assert_allclose(_curve(counts, label).get_xydata(), [[value, mean] for value in sorted(values)])
    for axes in (shares, counts):
        low, high = axes.get_xlim()
        assert low <= min(values) <= max(values) <= high
        assert default is None or list(_curve(axes, f"default {default:g}").get_xdata()) == [default, default]


def test_shares_and_counts_are_those_of_the_runs():
    outcomes = {0.1: [RIGHT, RIGHT, WRONG], 0.001: [WRONG], 0.01: [RIGHT, RIGHT]}

    shares, counts = sweep_sensitivity("a", outcomes, 0.01).axes

    np.testing.assert_allclose(shares.lines[0].get_xydata(), [[0.001, 0], [0.01, 1], [0.1, 2 / 3]])
    assert [text.get_text() for text in shares.texts] == ["0/1", "2/2", "2/3"]
    np.testing.assert_allclose(_curve(counts, "contradictions of the pattern").get_ydata(), [60, 0, 20])
    np.testing.assert_allclose(_curve(counts, "components alive").get_ydata(), [3, 10, 23 / 3])
    assert list(_curve(counts, "10 mechanisms").get_ydata()) == [10, 10]
    assert list(_curve(shares, "default 0.01").get_xdata()) == [0.01, 0.01]


def _intervals(axes):
    """Ends of the bars by their place."""
    (bars,) = axes.collections
    return {segment[0][0]: (segment[0][1], segment[1][1]) for segment in bars.get_segments()}


def test_shares_stand_in_their_intervals(render):
    figure = recovery_shares("a", {0.1: (3, 3), 0.001: (0, 3), 0.01: (2, 4)}, 0.01)
    render(figure)

    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.001, 0], [0.01, 0.5], [0.1, 1]])
    bars = _intervals(axes)
    assert bars[0.1] == pytest.approx((3 / 6.84146, 1))  # n / (n + 1.96²) to 1
    assert bars[0.001] == pytest.approx((0, 3.84146 / 6.84146))
    assert bars[0.01] == pytest.approx((0.15, 0.85), abs=1e-4)
    assert _intervals(sweep_sensitivity("a", {0.1: [RIGHT] * 3}).axes[0])[0.1] == pytest.approx(bars[0.1])
    assert [text.get_text() for text in axes.texts] == ["0/3", "2/4", "3/3"]
    assert axes.get_xscale() == "log"
    assert list(_curve(axes, "default 0.01").get_xdata()) == [0.01, 0.01]


@pytest.mark.parametrize("counts", [{}, {1.0: (0, 0)}])
def test_shares_need_runs(counts):
    with pytest.raises(ValueError, match=r"^counts must hold at least one run per value"):
        recovery_shares("a", counts)


@pytest.mark.parametrize(
    ("values", "scale"), [([1, 9], "linear"), ([1, 10.5], "log"), ([0, 100], "linear"), ([-1, 100], "linear")]
)
def test_the_axis_is_logarithmic_beyond_a_decade(values, scale):
    figure = sweep_sensitivity("a", {value: [RIGHT] for value in values})

    assert [axes.get_xscale() for axes in figure.axes] == [scale, scale]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (HALF_DECADES, ["0.00024", "0.00076", "0.0024", "0.0076", "0.024"]),
        ((512.0, 2048.0, 8192.0), ["512", "2048", "8192"]),
        ((0.5, 20000.0, 3e6), ["0.5", "20000", "3e+06"]),
    ],
)
def test_values_are_the_ticks(values, expected):
    axes = sweep_sensitivity("a", {v: [RIGHT] for v in values}).axes[0]

    assert [label.get_text() for label in axes.get_xticklabels()] == expected


@pytest.mark.parametrize("outcomes", [{}, {1.0: []}])
def test_refuses_nothing(outcomes):
    with pytest.raises(ValueError, match=r"^outcomes must hold at least one run per value"):
        sweep_sensitivity("a", outcomes)


@pytest.mark.parametrize(
    ("runs", "sites", "shape"), [(1, 1, (5, 20)), (5, 2, (40, 200)), (21, 3, (5, 40)), (2, 2, (1, 1))]
)
def test_tables_render_at_every_size(runs, sites, shape, render):
    tables = {f"{run}e-3": {f"layers.{s}.mlp_in": torch.rand(*shape) for s in range(sites)} for run in range(runs)}

    figure = importance_comparison("importance.coefficient, seed 0", tables)

    render(figure)
    assert len(figure.axes) == min(runs, 12) * sites + 1


def test_tables_are_in_columns_by_run_and_rows_by_site(images):
    tables = {label: {site: torch.rand(3, 4) for site in ("in", "out")} for label in ("1e-3", "1e-2", "1e-1")}

    figure = importance_comparison("a", tables)

    shown = images(figure)
    for position, (site, label) in enumerate((site, label) for site in ("in", "out") for label in tables):
        np.testing.assert_allclose(shown[position].get_array(), tables[label][site].double())
        assert shown[position].get_clim() == (0, 1)
    assert [axes.get_title() for axes in figure.axes[:6]] == ["1e-3", "1e-2", "1e-1", "", "", ""]
    assert [axes.get_ylabel().split("\n")[0] for axes in figure.axes[:6]] == ["in", "", "", "out", "", ""]


def test_says_what_it_leaves_out(images):
    table = torch.zeros(5, 50)
    table[2, 40] = 0.25

    figure = importance_comparison("a", {str(run): {"x": table} for run in range(30)})

    assert images(figure)[0].get_array().shape == (5, 20)
    title = " ".join(figure.get_suptitle().split())
    assert "first 20 columns, the rest at most 0.25; 12 of 30 runs" in title
    assert [axes.get_title() for axes in figure.axes[:12]][::11] == ["0", "29"]


def test_a_run_without_a_site_leaves_its_panel_empty(images):
    figure = importance_comparison(
        "a", {"1": {"x": torch.ones(2, 2), "y": torch.ones(2, 2)}, "2": {"x": torch.ones(2, 2)}}
    )

    assert len(images(figure)) == 3
    assert figure.axes[3].texts[0].get_text() == "nothing to show"


def test_refuses_no_run():
    with pytest.raises(ValueError, match=r"^tables must not be empty, got \{\}$"):
        importance_comparison("a", {})
