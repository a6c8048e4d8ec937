import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.model import GateMLP, InnerMLP, SharedMLP, VectorMLP
from tests import reference
from tests.comparison import assert_same_with_gradients

HIDDEN = pytest.mark.parametrize("hidden", [[], [5], [4, 3]])
LEADING = pytest.mark.parametrize("leading", [(4,), (2, 3)])


def _random(function):
    function = function.double()
    with torch.no_grad():
        for parameter in function.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return function


@HIDDEN
@LEADING
def test_gate_equals_one_scalar_mlp_per_component(hidden, leading):
    gate = _random(GateMLP(3, 5, hidden))
    inner = torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True)
    expected = reference.gate_mlp(inner.flatten(0, -2), list(gate.weights), list(gate.biases)).reshape(*leading, 3)
    assert_same_with_gradients(gate(inner, None), expected, [inner, *gate.parameters()])


@pytest.mark.parametrize("hidden", [[5], [4, 3]])
@LEADING
def test_even_gate_equals_the_reference(hidden, leading):
    gate = _random(GateMLP(3, 5, hidden, even=True))
    inner = torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True)
    flat = inner.flatten(0, -2)
    expected = reference.even_gate_mlp(flat, list(gate.weights), list(gate.biases)).reshape(*leading, 3)
    assert_same_with_gradients(gate(inner, None), expected, [inner, *gate.parameters()])


def test_an_even_gate_does_not_see_the_sign_and_an_ordinary_one_does():
    inner = torch.randn(50, 3, dtype=torch.float64)
    even, ordinary = _random(GateMLP(3, 5, [8], even=True)), _random(GateMLP(3, 5, [8]))
    torch.testing.assert_close(even(inner, None), even(-inner, None), rtol=1e-12, atol=1e-12)
    assert (ordinary(inner, None) - ordinary(-inner, None)).abs().median() > 0.1
    assert even(inner, None).std(dim=0).min() > 0.1


def test_even_gates_start_by_opening_the_more_strongly_a_component_is_read():
    gate = GateMLP(200, 5, [16], even=True)
    gate.reset(keyed_generator("gate"))
    strengths = torch.linspace(0, 3, 20)[:, None].expand(20, 200)
    assert (gate(strengths, None).diff(dim=0) >= -1e-6).float().mean() > 0.99


def test_an_affine_gate_cannot_be_even():
    with pytest.raises(UsageError, match="even: a gate without hidden layers is affine, it cannot be even; give"):
        GateMLP(3, 5, [], even=True)


@HIDDEN
@LEADING
def test_shared_mlp_equals_the_reference(hidden, leading):
    shared = _random(SharedMLP(3, 5, hidden))
    features = torch.randn(*leading, 5, dtype=torch.float64, requires_grad=True)
    weights, biases = [layer.weight for layer in shared.layers], [layer.bias for layer in shared.layers]
    expected = reference.shared_mlp(features.flatten(0, -2), weights, biases).reshape(*leading, 3)
    assert_same_with_gradients(shared(torch.empty(*leading, 3), features), expected, [features, *shared.parameters()])


@HIDDEN
@LEADING
def test_inner_mlp_is_a_shared_one_of_all_inner_activations_and_their_sizes(hidden, leading):
    function = _random(InnerMLP(3, 5, hidden))
    inner = torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True)
    weights, biases = [layer.weight for layer in function.layers], [layer.bias for layer in function.layers]
    both = torch.stack([inner, torch.where(inner < 0, -inner, inner)], dim=-2).flatten(-2)
    expected = reference.shared_mlp(both.flatten(0, -2), weights, biases).reshape(*leading, 3)
    assert_same_with_gradients(function(inner, None), expected, [inner, *function.parameters()])


@HIDDEN
@LEADING
def test_vector_mlp_equals_one_mlp_per_component(hidden, leading):
    function = _random(VectorMLP(3, 5, hidden))
    features = torch.randn(*leading, 5, dtype=torch.float64, requires_grad=True)
    flat, weights, biases = features.flatten(0, -2), list(function.weights), list(function.biases)
    expected = reference.vector_mlp(flat, weights, biases).reshape(*leading, 3)
    found = function(torch.empty(*leading, 3), features)
    assert_same_with_gradients(found, expected, [features, *function.parameters()])


def test_each_component_of_a_vector_mlp_reads_the_whole_vector_by_itself():
    function, features = _random(VectorMLP(3, 5, [4])), torch.randn(6, 5, dtype=torch.float64)
    for column in range(5):
        changed = features.clone()
        changed[:, column] += 1
        assert ((function(changed, changed) - function(features, features)) != 0).all()
    before = function(features, features)
    with torch.no_grad():
        for parameter in function.parameters():
            parameter[1] += 1
    assert torch.equal(function(features, features)[:, [0, 2]], before[:, [0, 2]])
    assert (function(features, features)[:, 1] != before[:, 1]).all()


def test_vector_mlp_starts_scaled_by_its_fan_in():
    function = VectorMLP(60, 40, [50])
    function.reset(keyed_generator("vector"))
    assert [tuple(weight.shape) for weight in function.weights] == [(60, 40, 50), (60, 50, 1)]
    assert function.weights[0].std().item() == pytest.approx((2 / 40) ** 0.5, rel=0.05)
    assert function.weights[1].std().item() == pytest.approx((1 / 50) ** 0.5, rel=0.05)
    assert all((bias == 0).all() for bias in function.biases)


def test_functions_of_inner_activations_do_without_features():
    assert [kind.reads_features for kind in (GateMLP, InnerMLP, SharedMLP, VectorMLP)] == [False, False, True, True]


def test_gates_do_not_see_each_other():
    gate = _random(GateMLP(3, 5, [4]))
    inner = torch.randn(6, 3, dtype=torch.float64)
    changed = inner.clone()
    changed[:, 1] += 1
    difference = gate(changed, None) - gate(inner, None)
    assert (difference[:, [0, 2]] == 0).all()
    assert (difference[:, 1] != 0).all()


@pytest.mark.parametrize("hidden", [[16], [64, 32]])
def test_gate_starts_as_the_paper_says(hidden):
    gate = GateMLP(400, 5, hidden)
    gate.reset(keyed_generator("gate"))
    assert all((bias == 0).all() for bias in gate.biases)
    fan_ins = [1, *hidden]
    gains = [2**0.5] * len(hidden) + [1.0]
    for weight, fan_in, gain in zip(gate.weights, fan_ins, gains, strict=True):
        assert weight.std().item() == pytest.approx(gain / fan_in**0.5, rel=0.05)
        assert weight.mean().item() == pytest.approx(0, abs=0.06)


def test_affine_gate_starts_with_unit_weights():
    gate = GateMLP(2000, 5, [])
    gate.reset(keyed_generator("gate"))
    assert gate.weights[0].std().item() == pytest.approx(1, rel=0.05)


def test_parameter_count_of_the_paper():
    assert sum(parameter.numel() for parameter in GateMLP(20, 5, [16]).parameters()) == 20 * (3 * 16 + 1)


def test_shared_mlp_starts_scaled_by_its_fan_in():
    shared = SharedMLP(50, 40, [200])
    shared.reset(keyed_generator("shared"))
    assert shared.layers[0].weight.std().item() == pytest.approx((2 / 40) ** 0.5, rel=0.05)
    assert shared.layers[1].weight.std().item() == pytest.approx((1 / 200) ** 0.5, rel=0.05)
    assert all((layer.bias == 0).all() for layer in shared.layers)


@pytest.mark.parametrize("kind", [GateMLP, InnerMLP, SharedMLP, VectorMLP])
def test_empty_layers_are_refused(kind):
    with pytest.raises(UsageError, match=r"hidden: every width must be at least 1, got \[8, 0\]"):
        kind(3, 5, [8, 0])
