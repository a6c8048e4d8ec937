import numpy as np
import pytest
import torch
from matplotlib.patches import StepPatch

from spd_lightning.figures import importance_histograms


@pytest.mark.parametrize(("n_sites", "n_bins"), [(1, 50), (2, 1), (6, 100)])
def test_renders_at_every_size(n_sites, n_bins, render):
    figure = importance_histograms({f"s{i}": torch.randint(0, 10**6, (n_bins,)) for i in range(n_sites)})
    render(figure)
    assert len(figure.axes) == n_sites


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_renders_nothing_and_not_a_number(value, render):
    figure = importance_histograms({"linear1": torch.full((50,), value)})
    render(figure)
    assert "no values" in figure.axes[0].get_title()


def test_shows_the_counts_over_the_unit_interval_on_a_log_axis():
    counts = torch.tensor([900.0, 0, 1, 99])
    (axes,) = importance_histograms({"linear1": counts}).axes
    (steps,) = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    values, edges, baseline = steps.get_data()
    np.testing.assert_array_equal(values, counts)
    np.testing.assert_allclose(edges, [0, 0.25, 0.5, 0.75, 1])
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == baseline < 1
    assert axes.get_ylim()[1] > 900
    assert axes.get_title() == "linear1\n1,000 values\nlowest bin 90.00%, highest bin 9.90%"
    assert axes.get_ylabel() == "values per bin (width 0.25)"


def test_sites_share_the_count_axis():
    figure = importance_histograms({"a": torch.tensor([1, 2]), "b": torch.tensor([0, 10**6])})
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^counts must not be empty, got \{\}$"):
        importance_histograms({})
