import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.functional.weights import EVEN, Weights
from spd_lightning.losses import (
    Faithfulness,
    HiddenActivations,
    ImportanceMinimality,
    Minimality,
    Noise,
    Reconstruction,
    Simplicity,
    Step,
)
from spd_lightning.model import AttributedForm
from tests import reference
from tests.comparison import assert_same_with_gradients
from tests.model.attributed import residual, residual_network, sites_of, toy


def _step(model, x, mask, weights=EVEN):
    form = AttributedForm(model, x)
    form.choose(mask)
    return Step(form, Noise(("test",), x.device), weights=weights)


def _mask(step):
    return next(iter(step.importance.values())).lower


@pytest.fixture
def model():
    return residual()


@pytest.fixture
def step(model):
    x = torch.randn(3, 4, dtype=torch.float64)
    return _step(model, x, (torch.rand(3, 5) < 0.5).double())


def _weights(model, m):
    return [sum(m[c] * reference.full_component(V, U, c) for c in range(len(m))) for _, V, U in sites_of(model)]


def test_minimality_equals_the_reference(model, step):
    network = residual_network(model)
    outputs = torch.stack([network(_weights(model, m), x) for m, x in zip(_mask(step), step.batch, strict=True)])
    expected = reference.mse(outputs, model.target(step.batch))
    assert_same_with_gradients(Minimality()(step), expected, model.components.parameters())


def test_minimality_is_reconstruction_with_the_masks_as_they_are(step):
    torch.testing.assert_close(Minimality()(step), Reconstruction(sources="ci")(step))


def test_simplicity_equals_the_reference(model, step):
    expected = reference.simplicity(sites_of(model), _mask(step), 0.9)
    assert_same_with_gradients(Simplicity(p=0.9)(step), expected, model.components.parameters())


def test_faithfulness_of_full_components_equals_the_reference(model, step):
    deltas = [
        (W - sum(reference.full_component(V, U, c) for c in range(V.shape[1]))).flatten() for W, V, U in sites_of(model)
    ]
    expected = torch.cat(deltas).square().mean()
    assert_same_with_gradients(Faithfulness()(step), expected, model.components.parameters())


def test_hidden_activations_equal_the_reference(model, step):
    found = [[], []]
    for m, x in zip(_mask(step), step.batch, strict=True):
        stream, weights = x @ model.target.embedding, _weights(model, m)
        for layer in (0, 1):
            found[layer].append(weights[2 * layer] @ stream)
            stream = stream + weights[2 * layer + 1] @ torch.relu(found[layer][-1])
    wanted = [step.clean.site_inputs[f"layers.{i}.mlp_in"] @ model.target.layers[i].mlp_in.weight.T for i in (0, 1)]
    expected = reference.hidden_error([torch.stack(rows) for rows in found], wanted)
    assert_same_with_gradients(HiddenActivations()(step), expected, model.components.parameters())


@pytest.mark.parametrize("loss", [Minimality(), Simplicity(p=0.9), HiddenActivations()])
def test_a_weighted_row_counts_as_so_many(model, loss):
    x, mask = torch.randn(3, 4, dtype=torch.float64), (torch.rand(3, 5) < 0.5).double()
    rows = [0, 1, 1, 1, 2]
    weights = Weights(torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(loss(_step(model, x, mask, weights)), loss(_step(model, x[rows], mask[rows])))


def test_the_sparse_network_is_run_once_for_all_losses(step, monkeypatch):
    runs, run = [], type(step.model).masked
    monkeypatch.setattr(type(step.model), "masked", lambda *args: runs.append(1) or run(*args))
    for loss in (Minimality(), HiddenActivations()):
        loss(step.named("any"))
    assert len(runs) == 1


def test_hidden_activations_of_no_site_are_refused(step):
    with pytest.raises(UsageError, match=r"HiddenActivations: sites \['conv'\] match none of"):
        HiddenActivations(sites=["conv"])(step)
    with pytest.raises(UsageError, match="HiddenActivations: sites must be a list"):
        HiddenActivations(sites="*mlp_in")


def test_penalties_on_importances_are_not_its_kind(step):
    with pytest.raises(UsageError, match="penalties on importances need predicted ones; use method: spd"):
        ImportanceMinimality()(step)


@pytest.mark.parametrize("scope", ["shared", "per_example"])
@pytest.mark.parametrize("sources", ["uniform", "adversarial"])
def test_a_component_has_one_mask_for_all_its_sites(sources, scope, monkeypatch):
    model = toy()
    step = _step(model, torch.rand(6, 5, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64))
    seen = []
    run = type(model).masked

    def spied(self, batch, masks, *others):
        seen.append(masks)
        return run(self, batch, masks, *others)

    monkeypatch.setattr(type(model), "masked", spied)
    Reconstruction(sources=sources, adversary_scope=scope, adversary_step_size=0.1)(step)
    assert seen
    for masks in seen:
        assert torch.equal(masks["linear1"].components, masks["linear2"].components)
        assert masks["linear1"].components.std() > 0
