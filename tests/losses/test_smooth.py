"""The smooth count of components and its average over steps, against the formulas."""

import math

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.functional import smooth_l0
from spd_lightning.losses import RelativeFaithfulness, SmoothFrequency, SmoothImportance
from tests import reference
from tests.comparison import assert_same_with_gradients
from tests.losses.test_penalties import _reference_uppers, _sites, _trained


@pytest.mark.parametrize("progress", [0.0, 0.45, 0.9, 1.0])
def test_importance_equals_the_reference(make_model, make_step, x, progress):
    model = make_model()
    step = make_step(model, x, progress=progress)
    gamma = {0.0: 0.8, 0.45: 0.8 * 0.1**0.5, 0.9: 0.08, 1.0: 0.08}[progress]
    expected = reference.smooth_importance(_reference_uppers(model, step), gamma)
    assert_same_with_gradients(SmoothImportance(gamma=0.8, gamma_final=0.08)(step), expected, _trained(model))


@pytest.mark.parametrize("counted", [3.0, 1000.0])
def test_frequency_equals_the_reference(make_model, make_step, x, counted):
    model = make_model()
    step = make_step(model, x)
    expected = reference.smooth_frequency(_reference_uppers(model, step), 0.8, counted)
    assert_same_with_gradients(SmoothFrequency(reference=counted, gamma=0.8)(step), expected, _trained(model))


def test_the_average_is_that_of_the_steps_and_the_gradient_that_of_the_batch(make_model, make_step):
    model, loss = make_model(), SmoothFrequency(reference=50.0, half_life=2.0)
    keep, averages = 0.5**0.5, {}
    for number in range(3):
        batch = torch.rand(4, 5, dtype=torch.float64)
        found, total, step = loss(make_step(model, batch)), 0.0, make_step(model, batch)
        loss.observe({}, 0.0)
        for call, importance in step.importance.items():
            f = smooth_l0(importance.upper, 1.0).mean(0)
            averages[call] = keep * averages.get(call, 0.0) + (1 - keep) * f.detach()
            value = averages[call] / (1 - keep ** (number + 1))
            slope = torch.log2(1 + 50 * value) + 50 * value / (1 + 50 * value) / math.log(2)
            total = total + (value * torch.log2(1 + 50 * value)).sum() + (slope * (f - f.detach())).sum()
        assert_same_with_gradients(found, total, _trained(model))


def test_one_step_has_the_batch_as_its_average(make_model, make_step, x):
    step = make_step(make_model(), x)
    torch.testing.assert_close(SmoothFrequency(half_life=200.0)(step), SmoothFrequency()(step))


def test_a_copy_goes_on_from_the_state_exactly(make_model, make_step, x):
    model = make_model()
    one, two = SmoothFrequency(half_life=5.0), SmoothFrequency(half_life=5.0)
    assert one.state() is None
    one(make_step(model, x))
    one.observe({}, 0.0)
    two.load_state(one.state())
    later = make_step(model, x.flip(0) / 2)
    assert one(later).item() == two(later).item()
    for loss in (one, two):
        loss.observe({}, 0.0)
    with torch.no_grad():
        one(later)
    one.observe({}, 0.0)
    torch.testing.assert_close(one.state(), two.state(), rtol=0, atol=0)  # evaluation moves nothing
    assert one.state()["seen"] == 2


def test_a_step_that_is_not_taken_moves_no_average(make_model, make_step, x):
    loss = SmoothFrequency(half_life=5.0)
    loss(make_step(make_model(), x))
    assert loss.state() is None


def test_batches_that_one_step_adds_up_move_the_average_once(make_model, make_step, x):
    model = make_model()
    parts, whole = SmoothFrequency(half_life=5.0), SmoothFrequency(half_life=5.0)
    for half in x.reshape(-1, x.shape[-1]).chunk(2):
        parts(make_step(model, half))
    whole(make_step(model, x))
    for loss in (parts, whole):
        loss.observe({}, 0.0)
    torch.testing.assert_close(parts.state(), whole.state())


def test_relative_faithfulness_equals_the_reference(make_model, make_step, x):
    model = make_model()
    found = RelativeFaithfulness()(make_step(model, x))
    assert_same_with_gradients(found, reference.relative_faithfulness(_sites(model)), model.components.parameters())


def test_a_matrix_of_zeros_counts_as_long_as_the_others_are(make_model, make_step, x):
    model = make_model(n_identity_layers=1, sites={"linear1": 4, "hidden_layers.0": 2})
    with torch.no_grad():
        model.target.linear1.weight.zero_()
    dead, other = _sites(model)
    found = RelativeFaithfulness()(make_step(model, x))
    share = reference.faithfulness([dead]) * dead[0].numel() / other[0].square().sum()
    expected = (share + reference.relative_faithfulness([other])) / 2
    assert_same_with_gradients(found, expected, model.components.parameters())


def test_where_every_matrix_is_zero_what_is_added_counts_as_it_is(make_model, make_step, x):
    model = make_model(sites={"linear1": 3})
    with torch.no_grad():
        model.target.linear1.weight.zero_()
    expected = model.components["linear1"].weight().square().sum()
    torch.testing.assert_close(RelativeFaithfulness()(make_step(model, x)), expected)


def test_relative_faithfulness_does_not_depend_on_mixed_precision(make_model, make_step, x):
    model = make_model(dtype=torch.float32)
    step = make_step(model, x.float())
    plain = RelativeFaithfulness()(step)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = RelativeFaithfulness()(step)
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=0)


def test_the_slope_has_the_stated_bound():
    g = torch.linspace(0, 1, 100_001, dtype=torch.float64, requires_grad=True)
    smooth_l0(g, 0.05).sum().backward()
    assert g.grad.max().item() == pytest.approx(3 * math.sqrt(3) / (8 * 0.05), rel=1e-4)
    assert g.grad[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"gamma": 0.0}, "gamma must be a finite number above 0, got 0.0"),
        ({"gamma_end": 0.0}, "gamma_end must be above 0 and at most 1, got 0.0"),
        ({"half_life": -1.0}, "half_life must be a finite number above 0, got -1.0"),
    ],
)
def test_nonsense_is_refused(arguments, told):
    with pytest.raises(UsageError, match=f"^{told}$"):
        SmoothFrequency(**arguments)
