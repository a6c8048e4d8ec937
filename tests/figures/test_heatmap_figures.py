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
    figure = importance_heatmap({"linear1": torch.full((5, 70), value)})
    render(figure)
    (image,) = images(figure)
    np.testing.assert_array_equal(np.ma.getdata(image.get_array()), np.full((5, 64), value))
    assert image.get_clim() == (0, 1)
    assert f"first 64 of 70 columns, the rest at most {value:.2g}" in image.axes.get_title().replace("\n", " ")


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


def test_says_what_it_leaves_out(images):
    table = torch.zeros(5, 200)
    table[3, 150] = 0.25
    (image,) = images(importance_heatmap({"linear1": table}))
    assert image.get_array().shape == (5, 64)
    assert "first 64 of 200 columns, the rest at most 0.25" in image.axes.get_title().replace("\n", " ")


def test_max_components_is_adjustable(images):
    (image,) = images(importance_heatmap({"linear1": torch.rand(5, 200)}, max_components=200))
    assert image.get_array().shape == (5, 200)
    assert image.axes.get_title() == "linear1"


def test_max_components_may_differ_by_site(images):
    tables = {"linear1": torch.rand(5, 200), "linear2": torch.rand(5, 200)}
    first, second = images(importance_heatmap(tables, {"linear1": 150, "linear2": 20}))
    assert (first.get_array().shape, second.get_array().shape) == ((5, 150), (5, 20))
    assert first.axes.get_title().startswith("linear1\nfirst 150 of 200 columns")
    assert second.axes.get_title().startswith("linear2\nfirst 20 of 200 columns")


def test_five_hundred_columns_are_a_pixel_wide_each(render, images):
    figure = importance_heatmap({"layers.0.mlp_in": torch.rand(102, 500)}, 500)
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
    (image,) = images(importance_heatmap({"linear1": torch.rand(4, size)}, max_components=500))
    labels = [int(label.get_text()) for label in image.axes.get_xticklabels()]
    assert labels == list(image.axes.get_xticks())
    assert labels[0] == 0
    assert 5 <= len(labels) <= 10


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^tables must not be empty, got \{\}$"):
        importance_heatmap({})


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"^tables\['a'\] must have shape \[n_probes, C\], got \[3\]$"):
        importance_heatmap({"a": torch.zeros(3)})


def test_refuses_to_draw_no_column():
    with pytest.raises(ValueError, match="max_components must be at least 1, got 0 for 'a'"):
        importance_heatmap({"a": torch.zeros(3, 3)}, max_components=0)
    with pytest.raises(ValueError, match="max_components must be at least 1, got None for 'a'"):
        importance_heatmap({"a": torch.zeros(3, 3)}, max_components={"b": 3})
