import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.quiver import Quiver

from spd_lightning.figures import component_vectors


def pentagon():
    """TMS 5-2 taken apart: columns of length 1.13, five live components of twenty."""
    angles = torch.arange(5) * 2 * math.pi / 5
    weight = 1.13 * torch.stack([angles.cos(), angles.sin()])
    read, write, live = 0.01 * torch.randn(5, 20), 0.01 * torch.randn(20, 2), [3, 7, 8, 14, 19]
    for feature, component in enumerate(live):
        read[feature, component], write[component] = 1, weight[:, feature]
    return weight, read, write, live


def arrows(axes):
    (quiver,) = (artist for artist in axes.collections if isinstance(artist, Quiver))
    return np.stack([quiver.U, quiver.V]), quiver


def test_draws_the_columns_of_target_sum_and_components(render):
    weight, read, write, live = pentagon()
    figure = component_vectors(weight, read.requires_grad_(), write, live, "linear1")
    render(figure)
    assert figure.get_suptitle() == "linear1"
    target, total, *parts = figure.axes
    np.testing.assert_allclose(arrows(target)[0], weight.double())
    np.testing.assert_allclose(arrows(total)[0], (read @ write).T.detach(), atol=1e-6)
    for axes, component in zip(parts, live, strict=True):
        for feature in range(5):
            expected = (write[component] * read[feature, component]).detach()
            np.testing.assert_allclose(arrows(axes)[0][:, feature], expected, atol=1e-6)
        assert axes.get_title().startswith(f"component {component}\nnorm 1.1")


def test_arrows_share_equal_axes_and_start_at_the_origin():
    figure = component_vectors(*pentagon(), "linear1")
    limits = {axes.get_xlim() for axes in figure.axes} | {axes.get_ylim() for axes in figure.axes}
    assert len(limits) == 1
    assert limits.pop()[1] > 1.13
    for axes in figure.axes:
        quiver = arrows(axes)[1]
        assert axes.get_aspect() == 1
        assert not quiver.XY.any()
        assert (quiver.scale, quiver.angles, quiver.scale_units) == (1, "xy", "xy")


def test_one_colour_per_feature_with_a_legend():
    figure = component_vectors(*pentagon(), "linear1")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["0", "1", "2", "3", "4"]
    assert legend.get_title().get_text() == "feature"
    in_legend = [to_hex(line.get_color()) for line in legend.get_lines()]
    assert len(set(in_legend)) == 5
    for axes in figure.axes:
        assert [to_hex(color) for color in arrows(axes)[1].get_facecolor()] == in_legend


def test_reports_how_far_the_sum_is_off():
    weight = torch.tensor([[1.0], [0.0]])
    figure = component_vectors(weight, torch.tensor([[1.0]]), torch.tensor([[1.0, 0.25]]), [], "t")
    assert [axes.get_title() for axes in figure.axes] == ["target", "sum of all 1\nlargest error 0.25"]


def test_other_lengths_become_heat_maps_on_one_scale_around_zero(render, images):
    weight, read, write = torch.randn(10, 40), torch.randn(40, 200), torch.randn(200, 10) / 200
    figure = component_vectors(weight, read, write, list(range(40)), "40-10")
    render(figure)
    assert figure.get_suptitle() == "40-10 (first 12 of 40 components)"
    target, total, *parts = images(figure)
    assert len(parts) == 12
    np.testing.assert_allclose(target.get_array(), weight.double())
    np.testing.assert_allclose(total.get_array(), (read @ write).T, atol=1e-5)
    for component, image in enumerate(parts):
        np.testing.assert_allclose(image.get_array(), torch.outer(write[component], read[:, component]), atol=1e-6)
    limits = {image.get_clim() for image in (target, total, *parts)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high == -max(np.abs(image.get_array()).max() for image in (target, total, *parts))
    assert figure.axes[-1].get_ylabel() == "weight"


def _drawn(axes):
    """The matrix that a panel shows, as arrows or as a heat map."""
    if axes.images:
        return np.ma.getdata(axes.images[0].get_array())
    (arrows,) = (drawn for drawn in axes.collections if isinstance(drawn, Quiver))
    return np.stack([np.ma.getdata(arrows.U), np.ma.getdata(arrows.V)])


@pytest.mark.parametrize(("d_out", "d_in"), [(1, 1), (2, 1), (2, 100), (3, 5), (1000, 50)])
def test_renders_at_every_size(d_out, d_in, render):
    weight, read, write = torch.randn(d_out, d_in), torch.randn(d_in, 1), torch.randn(1, d_out)
    figure = component_vectors(weight, read, write, [0], "one component")
    render(figure)
    panels = figure.axes[:3]
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["target", "sum of all 1", "component 0"]
    wanted = [weight, (read @ write).T, (read @ write).T]
    for axes, matrix in zip(panels, wanted, strict=True):
        np.testing.assert_allclose(_drawn(axes), matrix.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("d_out", "value"), [(2, 0.0), (2, float("nan")), (2, 1e30), (3, 0.0), (3, float("inf"))])
def test_renders_constant_and_diverged_components(d_out, value, render):
    parts = torch.full((5, 3), value), torch.full((3, d_out), 1.0)
    figure = component_vectors(torch.zeros(d_out, 5), *parts, [2], "a title that is too long for one line " * 4)
    render(figure)
    target, total, part = figure.axes[:3]
    np.testing.assert_array_equal(_drawn(target), np.zeros((d_out, 5)))
    assert total.get_title().split("\n")[-1] == f"largest error {3 * np.float32(value):.2g}"
    if np.isfinite(value):
        np.testing.assert_allclose(_drawn(part), np.full((d_out, 5), value))
    assert "\n" in figure.get_suptitle()


def test_many_features_are_told_apart_by_a_colour_bar(render):
    figure = component_vectors(torch.randn(2, 40), torch.randn(40, 3), torch.randn(3, 2), [0], "many")
    render(figure)
    assert not figure.legends
    assert figure.axes[-1].get_ylabel() == "feature"


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"weight, read and write must be .* got \[2, 5\], \[4, 3\] and \[3, 2\]"):
        component_vectors(torch.zeros(2, 5), torch.zeros(4, 3), torch.zeros(3, 2), [], "")


def test_refuses_components_that_do_not_exist():
    with pytest.raises(ValueError, match=r"shown must hold components below 3, got \[0, 3\]"):
        component_vectors(torch.zeros(2, 5), torch.zeros(5, 3), torch.zeros(3, 2), [0, 3], "")
