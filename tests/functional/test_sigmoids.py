import pytest
import torch
from torch.autograd import gradcheck

from spd_lightning.functional import lower_leaky, upper_leaky
from tests import reference

BOUNDARIES = torch.tensor([-2.0, -0.5, 0.0, 1e-9, 0.25, 1.0, 1 + 1e-9, 3.0], dtype=torch.float64)
KINDS = {
    "one_sided": (
        lambda z: lower_leaky(z, "one_sided"),
        reference.lower_one_sided,
        reference.lower_one_sided_backward,
    ),
    "linear": (lambda z: lower_leaky(z, "linear"), reference.lower_linear, reference.lower_linear_backward),
    "upper": (upper_leaky, reference.upper, reference.upper_backward),
}


def _gradient(function, logits, incoming):
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(logits), logits, incoming)
    return gradient


@pytest.mark.parametrize("shape", [(40, 3), (5, 8, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_equal_the_reference(kind, shape):
    function, value, backward = KINDS[kind]
    logits = 1.5 * torch.randn(shape, dtype=torch.float64)
    logits[0] = torch.tensor([0.0, 1.0, -0.0], dtype=torch.float64)
    incoming = torch.randn(shape, dtype=torch.float64)
    expected = reference.elementwise(value, backward, logits)
    torch.testing.assert_close(function(logits), expected, rtol=0, atol=1e-12)
    expected_gradient = _gradient(lambda z: reference.elementwise(value, backward, z), logits, incoming)
    torch.testing.assert_close(_gradient(function, logits, incoming), expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "incoming", "expected"),
    [
        # left, left, at 0, just inside, inside, at 1, just outside, right
        ("one_sided", -1.0, [-0.01, -0.01, -0.01, -1, -1, -1, 0, 0]),
        ("one_sided", 1.0, [0, 0, 0, 1, 1, 1, 0, 0]),
        ("linear", -1.0, [-0.01, -0.01, -0.01, -1, -1, -1, 0, 0]),
        ("linear", 1.0, [0.01, 0.01, 0.01, 1, 1, 1, 0, 0]),
        ("upper", -1.0, [0, 0, 0, -1, -1, -1, -0.01, -0.01]),
        ("upper", 1.0, [0, 0, 0, 1, 1, 1, 0.01, 0.01]),
    ],
)
def test_gradients_by_hand_around_the_kinks(kind, incoming, expected):
    gradient = _gradient(KINDS[kind][0], BOUNDARIES, torch.full_like(BOUNDARIES, incoming))
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("one_sided", [0, 0, 0, 1e-9, 0.25, 1, 1, 1]),
        ("linear", [-0.02, -0.005, 0, 1e-9, 0.25, 1, 1, 1]),
        ("upper", [0, 0, 0, 1e-9, 0.25, 1, 1 + 1e-11, 1.02]),
    ],
)
def test_values_by_hand(kind, expected):
    torch.testing.assert_close(
        KINDS[kind][0](BOUNDARIES), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("kind", ["linear", "upper"])
def test_analytic_gradients_where_smooth(kind):
    logits = torch.tensor([-1.5, -0.3, 0.2, 0.8, 1.4, 4.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(KINDS[kind][0], (logits,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_dtype_and_stays_finite(kind, dtype):
    values = KINDS[kind][0](torch.tensor([-1e4, 0.0, 0.5, 1e4], dtype=dtype))
    assert values.dtype == dtype
    assert torch.isfinite(values).all()


def test_slope_is_an_argument():
    assert lower_leaky(torch.tensor(-1.0), "linear", slope=0.2) == pytest.approx(-0.2)
    assert upper_leaky(torch.tensor(2.0), slope=0.2) == pytest.approx(1.2)
    left = torch.tensor([-1.0])
    gradient = _gradient(lambda z: lower_leaky(z, slope=0.2), left, -torch.ones(1))
    torch.testing.assert_close(gradient, torch.tensor([-0.2]))


def test_unknown_leak():
    with pytest.raises(ValueError, match="leak must be 'one_sided' or 'linear', got 'swish'"):
        lower_leaky(torch.zeros(1), "swish")
