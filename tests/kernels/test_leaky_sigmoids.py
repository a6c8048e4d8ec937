"""Both leaky sigmoids at once equal each by itself."""

import pytest
import torch

from spd_lightning.functional import lower_leaky, upper_leaky
from spd_lightning.kernels import leaky_sigmoids
from tests.comparison import assert_same_with_gradients

LEAKS = pytest.mark.parametrize("leak", ["one_sided", "linear"])
SHAPES = pytest.mark.parametrize("shape", [(7, 1), (3, 64), (2, 5, 70), (66,)])
EDGES = [-1.0, -0.0, 0.0, 1e-7, 0.5, 1.0, 1.5, 40.0]


def _both(logits, leak):
    return torch.stack([lower_leaky(logits, leak), upper_leaky(logits)])


@LEAKS
@SHAPES
def test_equal_the_formulas(compiled, leak, shape):
    logits = (3 * torch.randn(shape)).requires_grad_()
    found = torch.stack(leaky_sigmoids(logits, leak, compiled))
    assert_same_with_gradients(found, _both(logits, leak), [logits], 1e-7)


@LEAKS
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_at_the_kinks(compiled, leak, sign):
    logits = torch.tensor(EDGES, requires_grad=True)
    incoming = sign * torch.ones(2, len(EDGES))
    found = torch.stack(leaky_sigmoids(logits, leak, compiled))
    (gradient,) = torch.autograd.grad(found, logits, incoming)
    expected = _both(logits, leak)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits, incoming)[0])


@LEAKS
@pytest.mark.parametrize("which", [0, 1])
def test_one_of_them_alone(compiled, leak, which):
    logits = torch.randn(4, 70, requires_grad=True)
    found, expected = leaky_sigmoids(logits, leak, compiled)[which], _both(logits, leak)[which]
    assert_same_with_gradients(found, expected, [logits], 1e-7)


def test_numbers_that_do_not_lie_side_by_side(compiled):
    logits = torch.randn(70, 4, 3).transpose(0, 2).requires_grad_()
    found = torch.stack(leaky_sigmoids(logits, "one_sided", compiled))
    assert_same_with_gradients(found, _both(logits, "one_sided"), [logits], 1e-7)


def test_numbers_that_are_none_come_through(compiled):
    lower, upper = leaky_sigmoids(torch.full((1, 3), torch.nan), "one_sided", compiled)
    assert lower.isnan().all()
    assert upper.isnan().all()


@pytest.mark.usefixtures("library")
def test_threads_do_not_matter(with_threads):
    logits, incoming = torch.randn(7, 130, requires_grad=True), torch.randn(2, 7, 130)

    def both():
        found = torch.stack(leaky_sigmoids(logits, "one_sided"))
        return found, *torch.autograd.grad(found, logits, incoming)

    for one, three in zip(*(with_threads(count, both) for count in (1, 3)), strict=True):
        assert torch.equal(one, three)
