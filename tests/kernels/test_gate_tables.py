"""Gates read from a table equal gates evaluated, as closely as the table says."""

import pytest
import torch

from spd_lightning.functional import lower_leaky, upper_leaky
from spd_lightning.kernels import Gate, table_error, tabulated_importance
from spd_lightning.kernels.derivatives import gate_derivatives
from spd_lightning.model import GateMLP

WIDTH = 6
LEAKS = pytest.mark.parametrize("leak", ["one_sided", "linear"])
OUTPUTS = ("logits", "lower", "upper")
TOLERANCE = 3e-5
"""Of float32, sums over some hundred examples included."""


def _gate_mlp(hidden=(5,), dtype=torch.float32):
    gate = GateMLP(WIDTH, 1, hidden).to(dtype)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
        gate.biases[-1].copy_(torch.linspace(-0.7, 1.7, WIDTH, dtype=torch.float64)[:, None])
    return gate


def _gate(mlp):
    return Gate(list(mlp.weights), list(mlp.biases))


def _exact(mlp, inner, leak):
    """Evaluated in double precision."""
    logits = mlp(inner.double(), inner)
    return logits, lower_leaky(logits, leak), upper_leaky(logits)


def _off_the_kinks(logits):
    """Rounding may put a logit on the other side of 0 or 1, where slopes jump."""
    return (logits.abs() > 1e-4) & ((logits - 1).abs() > 1e-4)


def _assert_equals_the_gate(mlp, inner, nodes, leak, compiled, wanted=OUTPUTS, tolerance=TOLERANCE):
    """In value, and in every gradient when the outputs in ``wanted`` receive one."""
    exact = GateMLP(WIDTH, 1, mlp.hidden).double()
    exact.load_state_dict(mlp.state_dict())
    twin = inner.detach().double().requires_grad_()
    found = tabulated_importance(inner.requires_grad_(), _gate(mlp), nodes, leak, compiled)
    expected = _exact(exact, twin, leak)
    for name, one, other in zip(OUTPUTS, found, expected, strict=True):
        assert one.shape == inner.shape, name
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)
    incoming = [torch.randn(inner.shape) * _off_the_kinks(expected[0]) for _ in OUTPUTS]
    chosen = [OUTPUTS.index(name) for name in wanted]
    gradients = [
        torch.autograd.grad([values[i] for i in chosen], leaves, [incoming[i].to(values[i]) for i in chosen])
        for values, leaves in ((found, [inner, *mlp.parameters()]), (expected, [twin, *exact.parameters()]))
    ]
    for one, other in zip(*gradients, strict=True):
        assert one.shape == other.shape
        assert other.abs().max() > 0
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance * other.abs().max().item())


def _both_sides(logits):
    return (logits < 0).any() and ((logits > 0) & (logits < 1)).any() and (logits > 1).any()


@LEAKS
@pytest.mark.parametrize("wanted", [OUTPUTS, *[(name,) for name in OUTPUTS]], ids=["all", *OUTPUTS])
def test_equals_the_gate(compiled, leak, wanted):
    mlp, inner = _gate_mlp(), torch.randn(300, WIDTH)
    assert _both_sides(mlp(inner, inner))
    _assert_equals_the_gate(mlp, inner, 129, leak, compiled, wanted)


@LEAKS
@pytest.mark.parametrize("hidden", [(5,), (4, 3)], ids=["one hidden layer", "two hidden layers"])
def test_equals_the_gate_in_double_precision(leak, hidden):
    mlp = _gate_mlp(hidden, torch.float64)
    _assert_equals_the_gate(mlp, torch.randn(100, WIDTH).double(), 1025, leak, True, tolerance=1e-7)


def test_two_hidden_layers_fall_back_to_the_formulas(compiled):
    _assert_equals_the_gate(_gate_mlp((4, 3)), torch.randn(300, WIDTH), 257, "one_sided", compiled, tolerance=1e-4)


def test_positions_and_numbers_that_do_not_lie_side_by_side(compiled):
    inner = torch.randn(WIDTH, 50, 4).permute(2, 1, 0)
    _assert_equals_the_gate(_gate_mlp(), inner[::2], 129, "one_sided", compiled)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 130])
def test_any_number_of_components(compiled, width):
    mlp = GateMLP(width, 1, [3])
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.normal_()
    inner = torch.randn(40, width, requires_grad=True)
    found = tabulated_importance(inner, _gate(mlp), 129, "linear", compiled)
    expected = mlp(inner, inner)
    torch.testing.assert_close(found[0], expected, rtol=TOLERANCE, atol=TOLERANCE)
    incoming = torch.randn(40, width)
    gradients = [torch.autograd.grad(logits, [inner, *mlp.parameters()], incoming) for logits in (found[0], expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sign", [-1, 1])
def test_one_example(compiled, sign):
    inner = sign * (0.1 + torch.rand(1, WIDTH))
    _assert_equals_the_gate(_gate_mlp(), inner, 65, "linear", compiled)


def test_a_component_without_input_gets_the_gates_value_at_zero(compiled):
    mlp, inner = _gate_mlp(), torch.randn(200, WIDTH)
    inner[:, [0, 3, 5]] = 0
    _assert_equals_the_gate(mlp, inner, 129, "one_sided", compiled)
    logits = tabulated_importance(inner, _gate(mlp), 129, "one_sided", compiled)[0]
    assert (logits[:, 3] == logits[0, 3]).all()


def test_zero_stays_exactly_zero_without_biases(compiled):
    mlp, inner = GateMLP(WIDTH, 1, [5]), torch.randn(200, WIDTH)
    mlp.reset(torch.Generator().manual_seed(0))
    inner[::3] = 0
    inner[:, 1] = 0
    for nodes in (8, 65, 66):
        logits, lower, upper = tabulated_importance(inner, _gate(mlp), nodes, "linear", compiled)
        for values in (logits, lower, upper):
            assert (values[inner == 0] == 0).all()
        assert (logits[inner != 0] != 0).all()


def test_components_of_very_different_size(compiled):
    mlp, inner = _gate_mlp(), torch.randn(300, WIDTH) * torch.tensor([1e-20, 1e-6, 1e-3, 1.0, 3.0, 1e-35])
    _assert_equals_the_gate(mlp, inner, 257, "one_sided", compiled)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_huge_range_costs_accuracy_and_nothing_else(compiled, scale):
    mlp, inner = _gate_mlp(), scale * torch.randn(300, WIDTH)
    found = tabulated_importance(inner.requires_grad_(), _gate(mlp), 65, "linear", compiled)
    expected = mlp(inner, inner)
    size = expected.abs().amax(0).clamp(min=1)
    assert ((found[0] - expected).abs() / size).max() < 2 * table_error(inner, _gate(mlp), 65)
    for gradient in torch.autograd.grad([part.sum() for part in found], [inner, *mlp.parameters()]):
        assert gradient.isfinite().all()


def _seen_error(gate, inner, nodes):
    """Of logits and of slopes, at given points, per component."""
    inner = inner.clone().requires_grad_()
    logits = tabulated_importance(inner, gate, nodes, "linear", compiled=False)[0]
    (slopes,) = torch.autograd.grad(logits.sum(), inner)
    value, slope, _ = gate_derivatives(*gate, inner.detach())
    return (logits - value).abs().amax(0), (slopes - slope).abs().amax(0), value, slope


@torch.no_grad()
def _random_gate(hidden=(5,)):
    return Gate(*([part.detach() for part in parts] for parts in _gate(_gate_mlp(hidden, torch.float64))))


def test_half_the_spacing_divides_errors_by_64_and_16():
    gate, inner = _random_gate(), 3 * (2 * torch.rand(3000, WIDTH, dtype=torch.float64) - 1)
    coarse, fine = (_seen_error(gate, inner, 3 + cells)[:2] for cells in (100, 200))
    orders = [torch.log2(before / after) for before, after in zip(coarse, fine, strict=True)]
    assert ((orders[0] > 5.5) & (orders[0] < 6.5)).all(), orders[0]
    assert ((orders[1] > 3.7) & (orders[1] < 4.3)).all(), orders[1]


@pytest.mark.parametrize("hidden", [(5,), (4, 3)])
@pytest.mark.parametrize("nodes", [17, 33, 65, 129])
def test_the_measured_error_bounds_what_is_seen(hidden, nodes):
    for _ in range(5):
        gate, inner = _random_gate(hidden), 2 * torch.randn(2000, WIDTH, dtype=torch.float64)
        in_logits, in_slopes, value, slope = _seen_error(gate, inner, nodes)
        relative = [
            error / exact.abs().amax(0).clamp(min=1) for error, exact in ((in_logits, value), (in_slopes, slope))
        ]
        seen, told = torch.stack(relative).max().item(), table_error(inner, gate, nodes).item()
        assert 0.2 * told < seen < 2 * told


@pytest.mark.parametrize("hidden", [(), (3,), (3, 2)])
def test_slope_and_curvature_are_the_gates(hidden):
    mlp, at = _gate_mlp(hidden, torch.float64), torch.randn(20, WIDTH, dtype=torch.float64, requires_grad=True)
    value = mlp(at, at)
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    found = gate_derivatives(*_gate(mlp), at)
    torch.testing.assert_close(found[:2], (value, slope), rtol=1e-12, atol=1e-12)
    curvature = torch.autograd.grad(slope.sum(), at)[0] if hidden else torch.zeros_like(at)
    torch.testing.assert_close(found[2], curvature, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("library")
def test_threads_change_values_not_at_all_and_gradients_by_rounding(with_threads):
    mlp, inner = _gate_mlp(), torch.randn(203, WIDTH, requires_grad=True)
    incoming = [torch.randn(203, WIDTH) for _ in OUTPUTS]

    def all_of_it():
        outputs = tabulated_importance(inner, _gate(mlp), 65, "one_sided")
        return outputs, torch.autograd.grad(outputs, [inner, *mlp.parameters()], incoming)

    (one, slopes), (three, other_slopes), (_, again) = (with_threads(count, all_of_it) for count in (1, 3, 3))
    assert all(torch.equal(left, right) for left, right in zip(one, three, strict=True))
    assert all(torch.equal(left, right) for left, right in zip(other_slopes, again, strict=True))
    torch.testing.assert_close(slopes, other_slopes, rtol=1e-4, atol=1e-4)


def test_numbers_that_are_none_come_through(compiled):
    inner = torch.randn(200, WIDTH)
    inner[7, 2] = float("nan")
    for values in tabulated_importance(inner, _gate(_gate_mlp()), 65, "one_sided", compiled):
        assert values[7, 2].isnan()
