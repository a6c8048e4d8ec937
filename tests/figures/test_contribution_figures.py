import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from spd_lightning.figures import contribution_agreement, feature_contributions


def sides(n_layers=1, n_features=100, d_mlp=50):
    """Target, components and their indices; the components are a little off."""
    names = [f"layers.{index}.mlp_in" for index in range(n_layers)]
    target = {name: torch.rand(n_features, d_mlp) ** 9 for name in names}
    components = {name: table + 0.01 * torch.randn(table.shape) for name, table in target.items()}
    return target, components, {name: torch.randint(500, (n_features,)) for name in names}


def columns(axes):
    """Heights of the marks per feature and layer, by their place."""
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    return {round(float(line.get_xdata()[0]), 3): line for line in marks}


@pytest.mark.parametrize(
    ("layers", "features", "neurons", "shown"),
    [(1, 100, 50, 10), (3, 102, 17, 20), (6, 5, 2, 20), (1, 1, 1, 1)],
)
def test_columns_render_at_every_size(layers, features, neurons, shown, render):
    figure = feature_contributions(*sides(layers, features, neurons), n_features=shown)
    render(figure)
    assert len(figure.axes) == 2
    assert len(columns(figure.axes[0])) == layers * min(features, shown)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e30])
def test_columns_and_agreement_render_what_is_constant_or_diverged(value, render):
    target, _, chosen = sides(1, 3, 2)
    components = {name: torch.full((3, 2), value) for name in target}
    render(feature_contributions(components, components, chosen))
    figure = contribution_agreement(target, components)
    render(figure)
    assert "Pearson r = nan" in figure.axes[0].get_title()


def test_columns_show_every_neuron_of_the_first_features_target_on_top():
    target, components, chosen = sides(n_features=7, d_mlp=4)
    figure = feature_contributions(target, components, chosen, n_features=3)
    for axes, side in zip(figure.axes, (target, components), strict=True):
        drawn = columns(axes)
        assert list(drawn) == [0, 1, 2]
        for feature, line in drawn.items():
            np.testing.assert_allclose(line.get_ydata(), side["layers.0.mlp_in"][int(feature)].double())
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["target", "components"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.get_suptitle().replace("\n", " ") == "Neuron contributions, features 0 to 2 of 7"


def test_components_are_named_below_their_feature():
    target, components, _ = sides(2, 2, 3)
    figure = feature_contributions(target, components, dict(zip(target, torch.tensor([[4, 5], [499, 0]]), strict=True)))
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0\n4\n499", "1\n5\n0"]


def test_layers_stand_side_by_side_each_in_its_colour():
    target, components, chosen = sides(2, 3, 4)
    figure = feature_contributions(target, components, chosen)
    drawn = columns(figure.axes[0])
    assert sorted(drawn) == [-0.2, 0.2, 0.8, 1.2, 1.8, 2.2]
    np.testing.assert_allclose(drawn[1.2].get_ydata(), target["layers.1.mlp_in"][1].double())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == list(target)
    colors = [to_hex(line.get_color()) for line in legend.get_lines()]
    assert [to_hex(drawn[place].get_color()) for place in (0.8, 1.2)] == colors
    assert len(set(colors)) == 2


def test_neurons_that_matter_are_labelled():
    # half of the target's largest contribution is 0.5; neuron 4 lies on neuron 2; a label is never put on another one
    target = {"a": torch.tensor([[0.1, 1.0, 0.6, 0.49, 0.599, -0.8]])}
    components = {"a": torch.tensor([[0.1, 0.3, 0.7, 0.0, 0.0, 0.0]])}
    figure = feature_contributions(target, components, {"a": torch.tensor([3])})
    labels = [{text.get_text(): text.xy for text in axes.texts} for axes in figure.axes]
    assert sorted(labels[0]) == ["1", "2", "5"]
    assert labels[0]["5"] == (0, pytest.approx(-0.8))
    assert list(labels[1]) == ["2"]
    assert "at least 0.5 of the target's largest" in figure.axes[0].get_title().replace("\n", " ")


def test_agreement_is_a_mark_per_feature_and_neuron_with_the_line_of_equals(render):
    target, components, _ = sides(3, 102, 17)
    figure = contribution_agreement(target, components)
    render(figure)
    for axes, site in zip(figure.axes, target, strict=True):
        line, marks = axes.lines
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
        np.testing.assert_allclose(marks.get_xdata(), target[site].flatten().double())
        np.testing.assert_allclose(marks.get_ydata(), components[site].flatten().double())
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_aspect() == 1
        r = np.corrcoef(target[site].flatten(), components[site].flatten())[0, 1]
        assert axes.get_title() == f"{site}\nPearson r = {r:.4f}\n102 features x 17 neurons"
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("target", "strongest component")
    assert figure.legends[0].texts[0].get_text() == "y = x"


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_agreement_is_laid_out_at_the_first_drawing(layers):
    figure = contribution_agreement(*sides(layers, 10, 4)[:2])
    figure.draw_without_rendering()
    (headline,) = (text for text in figure.texts if text.get_text() == figure.get_suptitle())
    floor, ceiling = figure.legends[0].get_window_extent().y1, headline.get_window_extent().y0
    for axes in figure.axes:
        assert axes.title.get_window_extent().y1 <= ceiling
        assert axes.xaxis.label.get_window_extent().y0 >= floor
        assert axes.bbox.width == pytest.approx(axes.bbox.height)


@pytest.mark.parametrize("n_features", [0, 21])
def test_refuses_features_that_have_no_room(n_features):
    with pytest.raises(ValueError, match=f"^n_features must be between 1 and 20, got {n_features}$"):
        feature_contributions(*sides(), n_features=n_features)


def test_refuses_no_site():
    with pytest.raises(ValueError, match=r"^target must not be empty, got \{\}$"):
        contribution_agreement({}, {})


@pytest.mark.parametrize("other", [{}, {"b": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3)}])
def test_refuses_sides_that_do_not_fit(other):
    with pytest.raises(ValueError, match=r"^(components must not be empty|target and components must have the same)"):
        contribution_agreement({"a": torch.zeros(3, 2)}, other)


def test_refuses_sites_of_different_features():
    tables = {"a": torch.zeros(3, 2), "b": torch.zeros(4, 2)}
    with pytest.raises(ValueError, match="every site must have the same features"):
        contribution_agreement(tables, tables)


@pytest.mark.parametrize("chosen", [{}, {"a": torch.zeros(2)}, {"a": torch.zeros(3, 1)}])
def test_refuses_features_without_a_component(chosen):
    tables = {"a": torch.zeros(3, 2)}
    with pytest.raises(ValueError, match=r"^chosen\['a'\] must have shape \[3\], got "):
        feature_contributions(tables, tables, chosen)
