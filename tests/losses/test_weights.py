"""A batch whose like examples are one weighted row has the losses of the whole batch."""

from functools import partial

import pytest
import torch

from spd_lightning.functional.weights import Weights
from spd_lightning.losses import (
    ContributionSparsity,
    Faithfulness,
    ImportanceCovariance,
    ImportanceMinimality,
    Noise,
    Reconstruction,
    Step,
)
from spd_lightning.model import FastForm, FastOptions, GateMLP, PerSite, PlainForm
from tests.comparison import assert_same_with_gradients

GATE = partial(PerSite, function=partial(GateMLP, hidden=[3]))
EXACT = FastOptions(nodes=0, compiled=False)
KINDS = {"plain": PlainForm, "fast": partial(FastForm, options=EXACT)}
WITHOUT_NOISE = {
    "faithfulness": Faithfulness(),
    "contributions": ContributionSparsity(),
    "covariance": ImportanceCovariance(),
    "importance": ImportanceMinimality(),
    "importance, squared": ImportanceMinimality(p=2.0),
    "ones": Reconstruction(sources="ones"),
    "ci": Reconstruction(sources="ci"),
    "ci, layerwise": Reconstruction(sources="ci", routing="layerwise"),
    "ci, kl": Reconstruction(sources="ci", distance="kl"),
    "ones, kl, layerwise": Reconstruction(sources="ones", distance="kl", routing="layerwise"),
}
WITH_NOISE = {
    "uniform": Reconstruction(),
    "uniform, layerwise": Reconstruction(routing="layerwise", samples=2),
    "uniform, subset, kl": Reconstruction(routing="subset", distance="kl"),
    "binomial": Reconstruction(sources="binomial"),
    "shared adversary": Reconstruction(sources="adversarial"),
    "adversary": Reconstruction(sources="adversarial", adversary_scope="per_example", adversary_steps=2),
}
TERMS = WITHOUT_NOISE | WITH_NOISE


def _seen(kind, model, x, weights=None, key="weights"):
    return Step(kind(model, x), Noise((key,), x.device), weights=Weights(weights, normalised=True))


@pytest.fixture(params=KINDS)
def make(request):
    """Builds a step, plain or fast."""

    return partial(_seen, KINDS[request.param])


@pytest.fixture
def model(make_model):
    return make_model(n_identity_layers=1, sites={"linear*": 4, "hidden_layers.*": 3}, importance=GATE)


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_empty_rows_merged_change_nothing(make, model, name):
    loss, active = WITHOUT_NOISE[name], torch.rand(4, 5, dtype=torch.float64)
    whole = torch.cat([active, torch.zeros(9, 5, dtype=torch.float64)])
    weights = torch.tensor([1.0] * 4 + [9.0], dtype=torch.float64) / 13
    assert_same_with_gradients(loss(make(model, whole[:5], weights)), loss(make(model, whole)), _trained(model))


@pytest.mark.parametrize("name", TERMS)
def test_equal_weights_are_no_weights(make, model, x, name):
    loss, leading = TERMS[name], x.shape[:-1]
    weights = torch.full(leading, 1 / leading.numel(), dtype=torch.float64)
    assert_same_with_gradients(loss(make(model, x, weights)), loss(make(model, x)), _trained(model), 1e-12)


@pytest.mark.parametrize("name", [name for name in TERMS if name != "faithfulness"])
def test_an_example_without_weight_does_not_count(make, model, name):
    loss, x = TERMS[name], torch.rand(3, 5, dtype=torch.float64)
    weights = torch.tensor([0.4, 0.6, 0.0], dtype=torch.float64)
    other = torch.cat([x[:2], 5 * torch.rand(1, 5, dtype=torch.float64)])
    torch.testing.assert_close(loss(make(model, other, weights)), loss(make(model, x, weights)))
    assert not torch.allclose(loss(make(model, other, weights.flip(0))), loss(make(model, x, weights.flip(0))))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_the_fast_step_has_the_plain_steps_losses(model, x, name, weighted):
    weights = torch.rand(x.shape[:-1], dtype=torch.float64) if weighted else None
    weights = weights / weights.sum() if weighted else None
    fast, plain = (TERMS[name](_seen(kind, model, x, weights)) for kind in (KINDS["fast"], PlainForm))
    assert_same_with_gradients(fast, plain, _trained(model))


def test_compiled_penalties_weigh_examples_too(make_model):
    model, x = make_model(importance=GATE, dtype=torch.float32), torch.rand(6, 5)
    weights = torch.rand(6)
    weights /= weights.sum()
    for p in (0.9, 1.0, 2.0):
        loss = ImportanceMinimality(p=p)
        kinds = partial(FastForm, options=FastOptions(nodes=0)), PlainForm
        fast, plain = (loss(_seen(kind, model, x, weights)) for kind in kinds)
        assert_same_with_gradients(fast, plain, model.importance_function.parameters(), 1e-4)


@pytest.mark.parametrize("name", WITH_NOISE)
def test_what_was_drawn_does_not_depend_on_the_order_of_losses(model, x, name):
    for kind in KINDS.values():
        step = _seen(kind, model, x)
        value = TERMS[name](step)
        for other in TERMS.values():
            other(step.named("other"))
        assert TERMS[name](step) == value
