import numpy as np
import pytest
import torch

from spd_lightning.figures import importance_heatmap


@pytest.mark.parametrize(
    ("n_sites", "shape"), [(1, (5, 20)), (6, (5, 20)), (3, (40, 200)), (1, (1, 1)), (6, (1, 500)), (1, (100, 1))]
)
def test_renders_at_every_size(n_sites, shape, render):
    figure = importance_heatmap({f"layers.{i}.mlp_in": torch.rand(*shape) for i in range(n_sites)})
    render(figure)
    assert len(figure.axes) == n_sites + 1


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_renders_constant_and_diverged_tables(value, render, images):
    figure = importance_heatmap({"linear1": torch.full((5, 70), value)}, {"linear1": range(64)})
    render(figure)
    (image,) = images(figure)
    np.testing.assert_array_equal(np.ma.getdata(image.get_array()), np.full((5, 64), value))
    assert image.get_clim() == (0, 1)
    assert f"64 of 70 components, the others at most {value:.2g}" in image.axes.get_title().replace("\n", " ")


def test_shows_the_values_in_the_order_given_on_a_fixed_scale(images):
    tables = {"linear1": torch.rand(5, 20), "linear2": 0.1 * torch.rand(5, 7)}
    figure = importance_heatmap(tables)
    for image, (site, table) in zip(images(figure), tables.items(), strict=True):
        np.testing.assert_allclose(image.get_array(), table.double())
        assert image.get_clim() == (0, 1)
        assert image.axes.get_title() == site
    assert figure.axes[-1].get_ylim() == (0, 1)
    assert figure.axes[-1].get_ylabel() == "causal importance"


def test_one_hot_probe_zero_is_the_top_left_cell(images):
    (image,) = images(importance_heatmap({"linear1": torch.eye(3)}))
    assert image.origin == "upper"
    assert image.axes.get_ylabel() == "probed feature"


def test_draws_the_components_asked_for_under_their_own_numbers(images):
    table = torch.zeros(5, 200)
    table[3, 150], table[2, 7], table[1, 9] = 0.25, 1.0, 0.5
    figure = importance_heatmap({"linear1": table, "linear2": table}, {"linear1": [9, 7], "linear2": [150]})
    first, second = images(figure)
    np.testing.assert_array_equal(first.get_array(), table[:, [9, 7]])
    np.testing.assert_array_equal(second.get_array(), table[:, [150]])
    assert [label.get_text() for label in first.axes.get_xticklabels()] == ["9", "7"]
    assert first.axes.get_title().replace("\n", " ") == "linear1 2 of 200 components, the others at most 0.25"
    assert second.axes.get_title().replace("\n", " ") == "linear2 1 of 200 components, the others at most 1"


def test_without_a_component_to_draw_it_says_what_there_is(render):
    figure = importance_heatmap({"linear1": torch.full((5, 8), 0.07)}, {"linear1": []})
    render(figure)
    assert figure.axes[0].texts[0].get_text() == "nothing to show"
    assert figure.axes[0].get_title().replace("\n", " ") == "linear1 0 of 8 components, the others at most 0.07"


def test_says_in_words_which_component_matters_to_which_feature():
    figure = importance_heatmap({"linear1": torch.tensor([[0.0, 0.9, 0.0], [1.0, 0.2, 0.0]])}, {"linear1": [1, 0]})
    assert figure.get_label() == "linear1: 2 of 3 components; the strongest of each feature 0: 1 (0.90), 1: 0 (1.00)"


def test_five_hundred_columns_are_a_pixel_wide_each(render, images):
    figure = importance_heatmap({"layers.0.mlp_in": torch.rand(102, 500)})
    render(figure)
    (image,) = images(figure)
    assert image.get_array().shape == (102, 500)
    assert image.axes.bbox.width > 500


def test_takes_tensors_that_require_a_gradient_in_low_precision(images):
    table = torch.rand(2, 3, dtype=torch.bfloat16, requires_grad=True)
    (image,) = images(importance_heatmap({"linear1": table}))
    np.testing.assert_array_equal(image.get_array(), table.detach().double())


def test_does_not_follow_later_changes_of_the_tensor(images):
    table = torch.zeros(2, 3, dtype=torch.float64)
    (image,) = images(importance_heatmap({"linear1": table}))
    table.fill_(1)
    assert image.get_array().max() == 0


@pytest.mark.parametrize("size", [5, 20, 64, 500])
def test_labels_ticks_with_round_positions(size, images):
    (image,) = images(importance_heatmap({"linear1": torch.rand(4, size)}))
    labels = [int(label.get_text()) for label in image.axes.get_xticklabels()]
    assert labels == list(image.axes.get_xticks())
    assert labels[0] == 0
    assert 5 <= len(labels) <= 60


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^tables must not be empty, got \{\}$"):
        importance_heatmap({})


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"^tables\['a'\] must have shape \[n_probes, C\], got \[3\]$"):
        importance_heatmap({"a": torch.zeros(3)})


def test_refuses_components_that_do_not_exist():
    with pytest.raises(ValueError, match=r"shown\['a'\] must hold components below 3, got \[0, 3\]"):
        importance_heatmap({"a": torch.zeros(3, 3)}, {"a": [0, 3]})
