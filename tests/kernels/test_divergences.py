"""The divergence of predictions without tables of probabilities is the divergence."""

import pytest
import torch

from spd_lightning.functional.distances import kl_rows
from spd_lightning.kernels import divergences
from tests.comparison import assert_same_with_gradients

SHAPES = pytest.mark.parametrize("shape", [(6, 1), (6, 5), (2, 3, 130), (7,), (2, 4, 2048)])


def _logits(shape, scale=3.0):
    return (scale * torch.randn(shape)).requires_grad_(), scale * torch.randn(shape)


@SHAPES
def test_equals_the_formula(compiled, shape):
    prediction, target = _logits(shape)
    found = divergences(prediction, target, compiled)
    assert found.shape == shape[:-1]
    expected = kl_rows(prediction.double(), target.double()).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    incoming = torch.randn(shape[:-1])
    gradients = [torch.autograd.grad(some, prediction, incoming)[0] for some in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_close_distributions_are_told_apart(compiled):
    target = 10 + 5 * torch.randn(4, 500)
    prediction = (target + 1e-2 * torch.randn(4, 500)).requires_grad_()
    expected = kl_rows(prediction.double(), target.double()).float()
    torch.testing.assert_close(divergences(prediction, target, compiled), expected, rtol=1e-2, atol=1e-7)


def test_of_itself_it_is_nothing(compiled):
    _, target = _logits((5, 300))
    assert torch.equal(divergences(target.clone(), target, compiled), torch.zeros(5))


def test_what_the_target_rules_out_costs_nothing(compiled):
    prediction, target = _logits((3, 66))
    target[:, 60:] = -torch.inf
    found = divergences(prediction, target, compiled)
    assert_same_with_gradients(found, kl_rows(prediction, target), [prediction], 1e-5)
    both = prediction.detach().clone()
    both[:, 60:] = -torch.inf
    torch.testing.assert_close(divergences(both, target, compiled), kl_rows(both, target), rtol=1e-5, atol=1e-6)


def test_what_the_prediction_alone_rules_out_is_infinitely_far(compiled):
    prediction, target = torch.zeros(1, 5), torch.zeros(1, 5)
    prediction[0, 0] = -torch.inf
    assert divergences(prediction, target, compiled).isinf().all()


def test_numbers_that_do_not_lie_side_by_side(compiled):
    prediction, target = torch.randn(70, 4).t().requires_grad_(), torch.randn(4, 140)[:, ::2]
    found = divergences(prediction, target, compiled)
    assert_same_with_gradients(found, kl_rows(prediction, target), [prediction], 1e-5)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_large_logits(compiled, size):
    prediction, target = torch.tensor([[size, 0.0, -size]]), torch.tensor([[size, 0.0, -size]])
    assert divergences(prediction, target, compiled).item() == 0


def test_numbers_that_are_none_come_through(compiled):
    assert divergences(torch.full((2, 3), torch.nan), torch.zeros(2, 3), compiled).isnan().all()


def test_double_precision_falls_back_to_the_formula():
    prediction, target = (part.double() for part in _logits((4, 5)))
    assert torch.equal(divergences(prediction, target), kl_rows(prediction, target))


@pytest.mark.usefixtures("library")
def test_threads_do_not_matter(with_threads):
    prediction, target = _logits((7, 130))

    def both():
        found = divergences(prediction, target)
        return found, *torch.autograd.grad(found.sum(), prediction)

    for one, three in zip(*(with_threads(count, both) for count in (1, 3)), strict=True):
        assert torch.equal(one, three)
