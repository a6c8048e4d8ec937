import math

import pytest
import torch

from spd_lightning.functional import (
    component_shares,
    distance,
    faithfulness,
    importance_minimality,
    kl,
    mean_output,
    mse,
    rank_penalty,
)
from spd_lightning.functional.frequency import mean_products
from spd_lightning.functional.losses import squared_lengths
from tests import reference
from tests.comparison import assert_same_with_gradients


@pytest.fixture(params=[(4, 3), (2, 3, 3)], ids=["batch", "batch-position"])
def pair(request):
    return (
        torch.randn(request.param, dtype=torch.float64, requires_grad=True),
        torch.randn(request.param, dtype=torch.float64, requires_grad=True),
    )


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_distances_equal_the_reference(kind, pair):
    expected = getattr(reference, kind)(*(tensor.flatten(0, -2) for tensor in pair))
    assert_same_with_gradients(distance(kind, *pair), expected, pair)


def test_mse_is_averaged_over_outputs_too():
    prediction = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    assert mse(prediction, torch.zeros(2, 2)).item() == pytest.approx((1 + 9) / 4)


def test_kl_is_of_the_target_summed_over_the_vocabulary():
    target, prediction = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl(prediction, target).item() == pytest.approx(expected)
    assert kl(target, prediction).item() != pytest.approx(expected)
    assert kl(prediction.expand(7, 2), target.expand(7, 2)).item() == pytest.approx(expected)


def test_kl_survives_large_logits():
    assert torch.isfinite(kl(torch.tensor([[1e4, -1e4]]), torch.tensor([[1e4, 0.0]])))


def test_unknown_distance():
    with pytest.raises(ValueError, match="distance must be 'mse' or 'kl', got 'l1'"):
        distance("l1", torch.zeros(1), torch.zeros(1))


def test_faithfulness_divides_once_by_all_entries():
    deltas = [torch.full((2, 5), 2.0), torch.full((3, 1), 1.0)]
    assert faithfulness(deltas).item() == pytest.approx((10 * 4 + 3 * 1) / 13)


def test_faithfulness_takes_a_generator():
    assert faithfulness(delta for delta in [torch.ones(2, 2)]).item() == 1


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("leading", [(4,), (2, 3)])
def test_importance_minimality_equals_the_reference(p, leading):
    upper = [torch.rand(*leading, C, dtype=torch.float64).requires_grad_() for C in (3, 2)]
    expected = reference.importance_minimality([u.flatten(0, -2) for u in upper], p)
    assert_same_with_gradients(importance_minimality(upper, p), expected, upper)


def test_importance_minimality_sums_over_sites_and_components():
    upper = [torch.tensor([[1.0, 0.5], [0.0, 0.5]]), torch.tensor([[1.0], [1.0]])]
    assert importance_minimality(upper, 1.0).item() == pytest.approx(2 / 2 + 2 / 2)
    assert importance_minimality(upper, 2.0).item() == pytest.approx((1 + 2 * 0.25) / 2 + 1)


def test_importance_minimality_has_a_finite_slope_at_zero():
    upper = torch.zeros(2, 3, requires_grad=True)
    importance_minimality([upper], 0.5).backward()
    assert torch.isfinite(upper.grad).all()
    assert (upper.grad > 0).all()


@pytest.mark.parametrize("weights", [None, [0.5, 0.25, 0.25]])
def test_kl_leaves_out_what_the_target_rules_out(weights):
    """A padded vocabulary: logits of ``-inf`` in both networks are as if they were not there."""
    prediction, target = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    ruled_out = torch.tensor([False, True, False, True, False, False])
    places = torch.cat([torch.nonzero(~ruled_out), torch.nonzero(ruled_out)]).flatten().argsort()
    padded = [torch.cat([logits, torch.full((3, 2), -torch.inf)], 1)[:, places] for logits in (prediction, target)]
    assert torch.equal(padded[0].isinf(), ruled_out.expand(3, 6))
    found = kl(*padded, weights)
    assert torch.isfinite(found)
    assert_same_with_gradients(found, kl(prediction, target, weights), [prediction])


def test_what_is_masked_to_minus_infinity_gets_no_gradient():
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 6, dtype=torch.float64).masked_fill(torch.arange(6) == 5, -torch.inf)
    kl(logits.masked_fill(torch.arange(6) == 5, -torch.inf), target).backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, 5].any()
    assert logits.grad[:, :5].abs().min() > 0


def test_what_only_the_target_rules_out_costs_the_prediction_what_it_gives_to_it():
    """All of the target's probability on the first of two, half of the prediction's: ``log 2``."""
    target = torch.tensor([[0.0, -torch.inf]])
    prediction = torch.zeros(1, 2, requires_grad=True)
    found = kl(prediction, target)
    assert found.item() == pytest.approx(math.log(2))
    found.backward()
    torch.testing.assert_close(prediction.grad, torch.tensor([[-0.5, 0.5]]))


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_no_output_without_input_is_nearer_than_the_mean_one(kind):
    generator = torch.Generator().manual_seed(5)
    output = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    weights = torch.rand(3, 4, generator=generator, dtype=torch.float64)

    for weighed in (None, weights):
        mean = mean_output(kind, output, weighed).requires_grad_()
        normalised = None if weighed is None else weighed / weighed.sum()
        nearest = distance(kind, mean.expand_as(output), output, normalised)
        (gradient,) = torch.autograd.grad(nearest, mean)
        torch.testing.assert_close(gradient, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)
        assert nearest > 0


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_a_mean_output_over_shares_is_that_of_all_rows(kind):
    output, weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(6)), torch.arange(6.0)
    sums = []
    for rows in (slice(0, 2), slice(2, 6)):
        mean_output(kind, output[rows], weights[rows], lambda own: sums.append(own) or own)

    together = mean_output(kind, output[:2], weights[:2], lambda own: sums[0] + sums[1])

    torch.testing.assert_close(together, mean_output(kind, output, weights))


def test_a_weight_of_zeros_has_the_mean_length_of_the_others():
    weights = [torch.full((2, 2), 3.0), torch.zeros(3, 1), torch.ones(1, 2).bfloat16()]
    assert squared_lengths(weights).tolist() == [36.0, 19.0, 2.0]
    assert squared_lengths([torch.zeros(2, 2)]).tolist() == [1.0]


def test_ranks_of_a_weight_of_zeros_are_finite():
    read, write = torch.ones(2, 3), torch.ones(3, 2)
    assert rank_penalty([(read, write, torch.zeros(2, 2))], 1.0).item() == pytest.approx(6.0)


def test_weighted_shares_are_not_rounded_under_mixed_precision():
    values, weights = torch.rand(50, 4), torch.full((50,), 0.02)
    exact = component_shares(values, weights), mean_products(values, weights), mean_products(values)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = component_shares(values, weights), mean_products(values, weights), mean_products(values)
    torch.testing.assert_close(mixed, exact, rtol=0, atol=0)
