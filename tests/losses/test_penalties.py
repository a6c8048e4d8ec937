import math

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.functional import frequency_minimality, frequency_weighted_importance, keyed_generator
from spd_lightning.losses import ConstrainedImportance, Faithfulness, FrequencyMinimality, ImportanceMinimality
from tests import reference
from tests.comparison import assert_same_with_gradients


def _sites(model):
    return [(parts.site.weight(), parts.V, parts.U) for parts in model.components.values()]


@pytest.mark.parametrize("ties", [None, {"linear2": "linear1"}])
@pytest.mark.parametrize("updates", ["once", "twice"])
def test_faithfulness_equals_the_reference(make_model, make_step, ties, updates):
    model = make_model(sites={"linear*": 4}, ties=ties, tied_updates=updates)
    loss = Faithfulness()(make_step(model, torch.rand(2, 5, dtype=torch.float64)))
    assert_same_with_gradients(loss, reference.faithfulness(_sites(model)), model.components.parameters())


def test_faithfulness_counts_decomposed_weights_only(make_model, make_step):
    model = make_model(sites={"linear1": 3})
    with torch.no_grad():
        model.components["linear1"].V.zero_()
    loss = Faithfulness()(make_step(model, torch.rand(2, 5, dtype=torch.float64)))
    torch.testing.assert_close(loss, model.target.linear1.weight.square().sum() / 10)


@pytest.mark.parametrize("p", [0.7, 1.0, 2.0])
def test_importance_minimality_equals_the_reference(make_model, make_step, x, p):
    model = make_model()
    step = make_step(model, x)
    expected = reference.importance_minimality(_reference_uppers(model, step), p)
    assert_same_with_gradients(ImportanceMinimality(p=p)(step), expected, _trained(model))


@pytest.mark.parametrize(("p", "counted"), [(0.7, 3.0), (1.0, 10.0), (2.0, 1.0)])
def test_frequency_minimality_equals_the_reference(make_model, make_step, x, p, counted):
    model = make_model()
    step = make_step(model, x)
    expected = reference.frequency_minimality(_reference_uppers(model, step), p, counted)
    assert_same_with_gradients(FrequencyMinimality(p=p, reference=counted)(step), expected, _trained(model))


@pytest.mark.parametrize(
    ("p", "exponent", "rare"), [(0.7, 1.0, None), (1.0, 0.5, 0.0), (2.0, 0.0, -1.0), (1.0, 1.0, -0.5)]
)
def test_frequency_weighted_importance_equals_the_reference(make_model, make_step, x, p, exponent, rare):
    model = make_model()
    step = make_step(model, x, progress=1.0)
    expected = reference.frequency_weighted_importance(
        _reference_uppers(model, step), p, exponent, exponent if rare is None else rare
    )
    loss = ConstrainedImportance(p=p, frequency_exponent=exponent, frequency_exponent_final=rare)
    assert_same_with_gradients(loss(step), expected, _trained(model))


def _reference_uppers(model, step):
    uppers = []
    for name, a in step.clean.site_inputs.items():
        gate = model.importance_function.functions[name]
        inner = a.reshape(-1, a.shape[-1]) @ model.components[name].V
        logits = reference.gate_mlp(inner, list(gate.weights), list(gate.biases))
        uppers.append(reference.elementwise(reference.upper, reference.upper_backward, logits))
    return uppers


def test_frequency_by_hand():
    """Shares 1/2 and 1 at reference 2: 1/2 log2(2) + log2(3)."""
    upper = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    assert frequency_minimality([upper], 1.0, 2.0, eps=0.0).item() == pytest.approx(0.5 + math.log2(3))


def test_weighted_rows_count_as_often_as_they_weigh():
    upper = torch.rand(3, 4, generator=keyed_generator("upper"), dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    repeated = frequency_minimality([upper[[0, 0, 1, 2]]], 0.5, 7.0)
    torch.testing.assert_close(frequency_minimality([upper], 0.5, 7.0, weights=weights), repeated)


def test_weights_by_frequency_move_the_gradient_and_leave_the_value():
    """Shares 1/2 and 1: at exponent 1 the second costs twice the first, and both together 3/2 as without weights."""
    upper = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    value = frequency_weighted_importance([upper], 1.0, 1.0, 1.0, eps=0.0)
    assert value.item() == pytest.approx(1.5)
    (gradient,) = torch.autograd.grad(value, upper)
    torch.testing.assert_close(gradient, 0.5 * torch.tensor([[0.6, 1.2], [0.6, 1.2]], dtype=torch.float64))


def test_what_is_rare_and_what_is_frequent_may_both_be_dearer_than_what_is_typical():
    """Shares 1/4 and 1, of which 4^(-1/3) is typical: at 1 and -1 prices are 4^(2/3) and 4^(1/3), scaled."""
    upper = torch.tensor([[1.0, 1.0], [0, 1], [0, 1], [0, 1]], dtype=torch.float64, requires_grad=True)
    value = frequency_weighted_importance([upper], 1.0, 1.0, -1.0, eps=0.0)
    assert value.item() == pytest.approx(1.25)
    (gradient,) = torch.autograd.grad(value, upper)
    prices = torch.tensor([[4 ** (2 / 3), 4 ** (1 / 3)]], dtype=torch.float64)
    expected = prices * 1.25 / (4 ** (-1 / 3) + 4 ** (1 / 3)) / 4
    torch.testing.assert_close(gradient, expected.expand(4, 2))


def test_components_that_nothing_needs_cost_nothing():
    upper = torch.zeros(3, 4, requires_grad=True)
    value = frequency_weighted_importance([upper], 2.0, 1.0, -0.5)
    (gradient,) = torch.autograd.grad(value, upper)
    assert value.item() < 1e-20
    assert gradient.isfinite().all()


def test_the_same_importance_costs_more_in_one_frequent_component_than_in_many_rare_ones():
    rare, frequent = torch.eye(4), torch.ones(4, 1)
    assert frequency_minimality([frequent], 1.0, 10.0) > 1.5 * frequency_minimality([rare], 1.0, 10.0)


def test_the_frequency_penalty_anneals_its_exponent_and_refuses_a_reference_of_zero(make_model, make_step, x):
    loss = FrequencyMinimality(p=2.0, p_final=0.5)
    assert [loss.exponent(at) for at in (0, 0.5, 1)] == [2, 1.25, 0.5]
    with pytest.raises(UsageError, match="reference must be a finite number above 0, got 0"):
        FrequencyMinimality(reference=0)


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_the_exponent_moves_inside_its_window(make_model, make_step, x):
    loss = ImportanceMinimality(p=2.0, p_final=1.0, anneal_start=0.25, anneal_end=0.75)
    assert [loss.exponent(at) for at in (0, 0.25, 0.5, 0.75, 1)] == [2, 2, 1.5, 1, 1]
    model = make_model()
    at_end = loss(make_step(model, x, progress=1.0))
    torch.testing.assert_close(at_end, ImportanceMinimality(p=1.0)(make_step(model, x)))


def test_without_a_final_value_the_exponent_stays(make_model):
    assert [ImportanceMinimality(p=2.0).exponent(at) for at in (0, 0.5, 1)] == [2, 2, 2]


def test_the_penalty_does_not_grow_with_the_batch(make_model, make_step, x):
    model = make_model()
    once = ImportanceMinimality()(make_step(model, x))
    torch.testing.assert_close(ImportanceMinimality()(make_step(model, torch.cat([x, x]))), once)


def test_the_coefficient_moves_geometrically_and_stays_without_a_final_value():
    moving = ImportanceMinimality(coefficient=4e-4, coefficient_final=1e-4, coefficient_end=0.5)
    assert [moving.coefficient_at(at) for at in (0, 0.25, 0.5, 1)] == pytest.approx([4e-4, 2e-4, 1e-4, 1e-4])
    late = FrequencyMinimality(coefficient=4e-4, coefficient_final=1e-4, coefficient_start=0.5)
    assert [late.coefficient_at(at) for at in (0, 0.5, 0.75, 1)] == pytest.approx([4e-4, 4e-4, 2e-4, 1e-4])
    assert [ImportanceMinimality(coefficient=4e-4).coefficient_at(at) for at in (0, 1)] == [4e-4, 4e-4]
    assert Faithfulness(coefficient=2.0).coefficient_at(0.3) == 2.0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Faithfulness, ImportanceMinimality])
def test_coefficients_that_cannot_be(kind, value):
    with pytest.raises(UsageError, match=f"coefficient must be a finite number at least 0, got {value}"):
        kind(coefficient=value)


def test_a_coefficient_of_zero_is_allowed():
    assert Faithfulness(coefficient=0).coefficient == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 0.0}, "p must be a finite number above 0, got 0.0"),
        ({"p": -1.0}, "p must be a finite number above 0, got -1.0"),
        ({"p": float("nan")}, "p must be a finite number above 0, got nan"),
        ({"p_final": 0.0}, "p_final must be a finite number above 0, got 0.0"),
        ({"coefficient_final": 0.0}, "coefficient_final must be a finite number above 0, got 0.0"),
        (
            {"coefficient": 0.0, "coefficient_final": 1.0},
            "coefficient, where coefficient_final is given, must be a finite",
        ),
        ({"coefficient_start": -0.1}, "coefficient_end must satisfy 0 <= start <= end <= 1, got -0.1, 1.0"),
        ({"coefficient_end": 0.0}, "coefficient_end must be above 0 and at most 1, got 0.0"),
        ({"coefficient_end": 1.1}, "coefficient_end must be above 0 and at most 1, got 1.1"),
        ({"eps": -1e-3}, "eps must be a finite number at least 0, got -0.001"),
        ({"anneal_start": 0.8, "anneal_end": 0.2}, "must satisfy 0 <= start <= end <= 1, got 0.8, 0.2"),
        ({"anneal_end": 1.5}, "must satisfy 0 <= start <= end <= 1, got 0.0, 1.5"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(UsageError) as error:
        ImportanceMinimality(**arguments)
    assert message in str(error.value)
