import numpy as np
import pytest
import torch

from spd_lightning.figures import importance_spectrum


@pytest.mark.parametrize(("n_sites", "size"), [(1, 1), (1, 20), (2, 200), (6, 500)])
def test_renders_at_every_size(n_sites, size, render):
    figure = importance_spectrum({f"s{i}": 10 ** (-12 * torch.rand(size)) for i in range(n_sites)})
    render(figure)
    assert len(figure.axes) == n_sites


@pytest.mark.parametrize("value", [0.0, 1e6, float("nan")])
def test_renders_constant_and_diverged_means(value, render):
    figure = importance_spectrum({"linear1": torch.full((20,), value)})
    render(figure)
    (axes,) = figure.axes
    _, above, low = axes.lines
    places = {0.0: (0, 20), 1e6: (20, 0)}.get(value)
    if places is not None:
        assert (len(above.get_xdata()), len(low.get_xdata())) == places
        assert axes.get_title() == f"linear1\n{places[0]} of 20 above 1e-06"
    else:  # no place on any axis: counted as not above the threshold
        assert np.isnan(above.get_ydata()).all()
        assert axes.get_title() == "linear1\n0 of 20 above 1e-06"
    assert axes.get_ylim()[1] > (value if value == value else 1)


def test_sorts_and_puts_what_is_too_small_on_the_floor():
    means = torch.tensor([1e-3, 0.0, 0.5, -1e-4, 1e-12, 1e-8])
    (axes,) = importance_spectrum({"linear1": means}).axes
    line, above, low = axes.lines
    assert set(line.get_ydata()) == {1e-6}
    np.testing.assert_array_equal(above.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(above.get_ydata(), [0.5, 1e-3, 1e-8])
    np.testing.assert_array_equal(low.get_xdata(), [4, 5, 6])
    np.testing.assert_array_equal(low.get_ydata(), [1e-9] * 3)
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] < 1e-9


def test_prints_the_threshold_with_the_count():
    figure = importance_spectrum({"linear1": torch.tensor([0.2, 0.05, 0.01])}, threshold=0.02)
    assert figure.axes[0].get_title() == "linear1\n2 of 3 above 0.02"
    assert [text.get_text() for text in figure.legends[0].texts] == ["threshold 0.02", "at most 1e-09, or 0"]


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^means must not be empty, got \{\}$"):
        importance_spectrum({})


@pytest.mark.parametrize(("threshold", "floor"), [(1e-9, 1e-9), (0.0, 1e-9), (0.1, 0.0)])
def test_refuses_a_threshold_off_the_axis(threshold, floor):
    with pytest.raises(ValueError, match=f"threshold must exceed floor .* got {threshold} and {floor}"):
        importance_spectrum({"a": torch.zeros(3)}, threshold, floor)
