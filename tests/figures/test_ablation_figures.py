import numpy as np
import pytest
import torch

from spd_lightning.figures import ablation_dots, ablation_matrix

REGIMES = {
    "unmasked": 1.2e-9,
    "ci masks": 3.4e-5,
    "rounded": 5.1e-5,
    "stochastic": 8.9e-5,
    "worst case": 6.7e-3,
    "all zero": 9.3e-2,
}


def test_dots_stand_at_the_distances_and_carry_them(render):
    figure = ablation_dots(REGIMES, metric="KL, nats per position")
    render(figure)
    (axes,) = figure.axes
    assert list(axes.lines[0].get_xdata()) == list(REGIMES.values())
    assert [label.get_text() for label in axes.get_yticklabels()] == list(REGIMES)
    assert [text.get_text() for text in axes.texts][::5] == ["1.20e-09", "9.30e-02"]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "KL, nats per position (log)"
    assert axes.get_xlim()[0] < 1.2e-9 < 9.3e-2 < axes.get_xlim()[1]


def test_first_regime_is_on_top():
    (axes,) = ablation_dots(REGIMES).axes
    assert axes.yaxis_inverted()


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 (exact)"), (-1e-9, "-1.00e-09"), (float("nan"), "nan")])
def test_what_has_no_dot_is_printed_where_it_would_start(value, text, render):
    figure = ablation_dots({"unmasked": value, "ci masks": 0.5})
    render(figure)
    (axes,) = figure.axes
    assert axes.texts[0].get_text() == text
    assert axes.texts[0].xy[0] == axes.get_xlim()[0]


@pytest.mark.parametrize("value", [0.0, 1e-45, 3e38, float("nan"), float("inf")])
def test_renders_a_single_regime(value, render):
    figure = ablation_dots({"a long name of a way to mask components": value}, baseline=value)
    render(figure)
    (axes,) = figure.axes
    assert axes.texts[0].get_text() == ("0 (exact)" if value == 0 else f"{value:.2e}")
    assert figure.legends[0].texts[0].get_text() == f"baseline {value:.2e}"
    (place,) = axes.lines[0].get_xdata()
    assert np.isnan(place) if np.isnan(value) else place == min(value, axes.get_xlim()[1])


def test_baseline_is_a_named_line(render):
    figure = ablation_dots(REGIMES, baseline=0.5, baseline_name="mean output")
    render(figure)
    (axes,) = figure.axes
    assert set(axes.lines[1].get_xdata()) == {0.5}
    assert axes.get_xlim()[1] > 0.5
    assert figure.legends[0].texts[0].get_text() == "mean output 5.00e-01"


def test_dots_refuse_no_regime():
    with pytest.raises(ValueError, match=r"^distances must not be empty, got \{\}$"):
        ablation_dots({})


@pytest.mark.parametrize(
    ("n_sites", "shape"), [(1, (5, 5)), (3, (40, 40)), (1, (100, 100)), (1, (1, 1)), (2, (5, 0)), (6, (8, 13))]
)
def test_matrix_renders_at_every_size(n_sites, shape, render):
    sites = [f"layers.{i}.mlp_out" for i in range(n_sites)]
    columns = list(range(400, 400 + shape[1]))
    figure = ablation_matrix({site: torch.rand(*shape) for site in sites}, dict.fromkeys(sites, columns))
    render(figure)
    assert len(figure.axes) == n_sites + 1


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_effects_without_a_largest_have_a_scale_of_one(value, render, images):
    figure = ablation_matrix({"a": torch.full((3, 2), value)}, {"a": [4, 5]})
    render(figure)
    assert images(figure)[0].get_clim() == (0, 1)


@pytest.mark.parametrize(("value", "hidden"), [(0.0, False), (float("nan"), True), (float("inf"), True)])
def test_matrix_shows_constant_effects_and_leaves_diverged_ones_blank(value, hidden, render, images):
    effects = torch.tensor([[0.5, 0.5], [value, value]])
    figure = ablation_matrix({"a": effects}, {"a": [4, 5]})
    render(figure)
    (image,) = images(figure)
    shown = np.ma.masked_invalid(image.get_array())
    assert np.ma.getmaskarray(shown)[1].tolist() == [hidden, hidden]
    assert image.get_clim() == (0, 0.5)


def test_matrix_shows_effects_labelled_by_component(images):
    effects = {"linear1": torch.rand(5, 3), "linear2": 0.1 * torch.rand(5, 2)}
    figure = ablation_matrix(effects, {"linear1": [3, 7, 19], "linear2": [0, 11]}, metric="MSE")
    first, second = images(figure)
    np.testing.assert_allclose(first.get_array(), effects["linear1"].double())
    np.testing.assert_allclose(second.get_array(), effects["linear2"].double())
    assert first.get_clim() == second.get_clim() == (0, effects["linear1"].max())
    assert [label.get_text() for label in first.axes.get_xticklabels()] == ["3", "7", "19"]
    assert [label.get_text() for label in second.axes.get_xticklabels()] == ["0", "11"]
    assert figure.axes[-1].get_ylabel() == "MSE"


def test_signed_effects_are_centred_on_zero(images):
    (image,) = images(ablation_matrix({"a": torch.tensor([[0.5, -2.0]])}, {"a": [0, 1]}))
    assert image.get_clim() == (-2, 2)
    assert image.get_cmap().name == "RdBu_r"


def test_matrix_says_what_it_leaves_out(images):
    (image,) = images(ablation_matrix({"a": torch.ones(5, 100)}, {"a": range(100)}))
    assert image.get_array().shape == (5, 64)
    assert "first 64 of 100 columns" in image.axes.get_title()


def test_matrix_refuses_no_site():
    with pytest.raises(ValueError, match=r"^effects must not be empty, got \{\}$"):
        ablation_matrix({}, {})


@pytest.mark.parametrize("columns", [{}, {"a": [1]}])
def test_matrix_refuses_columns_without_a_name(columns):
    with pytest.raises(ValueError, match=r"^columns\['a'\] must name the 2 columns of effects, got "):
        ablation_matrix({"a": torch.zeros(5, 2)}, columns)
