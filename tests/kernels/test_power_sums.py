import pytest
import torch

from spd_lightning.kernels import power_sums
from tests.comparison import assert_same_with_gradients

POWERS = pytest.mark.parametrize("p", [1.0, 2.0, 0.9, 1.5, 0.4])


def _formula(upper, p, eps):
    return (upper.double() + eps).pow(p).sum(-1).float()


@POWERS
@pytest.mark.parametrize("eps", [1e-12, 0.3])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 130), (7,), (4, 1)])
def test_equals_the_formula(compiled, p, eps, shape):
    upper = (1.1 * torch.rand(shape)).requires_grad_()
    sums = power_sums([upper], p, eps, compiled)
    assert sums.shape == shape[:-1]
    assert_same_with_gradients(sums, _formula(upper, p, eps), [upper], 3e-6)


@POWERS
def test_sites_of_different_widths_add_up(compiled, p):
    sites = [torch.rand(6, width).requires_grad_() for width in (1, 5, 130)]
    expected = sum(_formula(upper, p, 0.1) for upper in sites)
    assert_same_with_gradients(power_sums(sites, p, 0.1, compiled), expected, sites, 3e-5)


@POWERS
def test_numbers_that_do_not_lie_side_by_side(compiled, p):
    upper = torch.rand(5, 6, 4).transpose(0, 2).requires_grad_()
    sums = power_sums([upper], p, 1e-12, compiled)
    expected = torch.autograd.grad(_formula(upper, p, 1e-12).sum(), upper)
    torch.testing.assert_close(torch.autograd.grad(sums.sum(), upper), expected)  # an expanded incoming gradient


@pytest.mark.parametrize("p", [0.9, 0.5])
def test_the_slope_at_zero_is_finite(compiled, p):
    upper = torch.zeros(2, 3, requires_grad=True)
    power_sums([upper], p, 1e-12, compiled).sum().backward()
    torch.testing.assert_close(upper.grad, torch.full((2, 3), p * 1e-12 ** (p - 1)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("p", [0.15625, 0.40625, 0.90625, 1.125, 1.90625, 3.0])  # exact in single precision
def test_powers_over_the_whole_range(compiled, p):
    upper = torch.logspace(-37, 4, 400)[:, None].requires_grad_()
    sums = power_sums([upper], p, 0.0, compiled)
    wanted = upper.detach().double().pow(p)[:, 0], p * upper.detach().double().pow(p - 1)
    kept = (wanted[1][:, 0] < 1e37) & (wanted[0] > 1e-37) & (wanted[1][:, 0] > 1e-37)
    torch.testing.assert_close(sums.detach().double()[kept], wanted[0][kept], rtol=2e-6, atol=0)
    (gradient,) = torch.autograd.grad(sums.sum(), upper)
    torch.testing.assert_close(gradient.double()[kept], wanted[1][kept], rtol=2e-6, atol=0)


@pytest.mark.parametrize("p", [0.4, 1.5])
def test_zero_and_numbers_that_are_none(compiled, p):
    upper = torch.tensor([[0.0], [torch.inf], [torch.nan]])
    assert power_sums([upper], p, 0.0, compiled)[:2].tolist() == [0.0, torch.inf]
    assert power_sums([upper], p, 0.0, compiled)[2].isnan()


def test_double_precision_falls_back_to_the_formula():
    upper = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    assert_same_with_gradients(power_sums([upper], 0.9, 1e-12), (upper + 1e-12).pow(0.9).sum(-1), [upper], 1e-12)


@pytest.mark.usefixtures("library")
def test_threads_do_not_matter(with_threads):
    upper = torch.rand(7, 130)
    one, three = (with_threads(count, lambda: power_sums([upper], 0.9, 1e-12)) for count in (1, 3))
    assert torch.equal(one, three)
