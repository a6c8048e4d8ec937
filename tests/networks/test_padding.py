"""Padding weighs nothing: losses and scores of padded batches are those of the rows without it."""

import pytest
import torch

from spd_lightning import (
    ContributionSparsity,
    FrequencyMinimality,
    ImportanceCovariance,
    ImportanceMinimality,
    KeywordCall,
    PositionalCall,
    Reconstruction,
    StochasticDecomposition,
)
from spd_lightning.functional import active_counts, alive_components
from spd_lightning.losses import Noise, Step
from spd_lightning.model import DecomposedModel, FastForm, FastOptions, PlainForm
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import PaddedTagger, example

FORMS = {"plain": PlainForm, "fast": lambda model, batch: FastForm(model, batch, FastOptions(0, False))}
# what is drawn at random would be drawn for padding too; these are not random
LOSSES = {
    "importances as masks": Reconstruction(sources="ci", distance="kl"),
    "unmasked": Reconstruction(sources="ones", distance="kl"),
    "importance": ImportanceMinimality(p=0.7),
    "contributions": ContributionSparsity(),
}
OF_THE_BATCH = {"frequency": FrequencyMinimality(p=0.7), "covariance": ImportanceCovariance()}


def _rows(batch):
    """Every row by itself, cut to its length."""
    for row in range(len(batch["input_ids"])):
        length = int(batch["attention_mask"][row].sum())
        yield length, {name: part[row : row + 1, :length] for name, part in batch.items()}


def _step(form, model, batch):
    return Step.seen(FORMS[form](model, batch), Noise((0,), torch.device("cpu")))


@pytest.fixture
def model():
    return randomised(decomposed("padded dictionary").double())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", FORMS)
def test_losses_are_those_of_the_rows(form, loss, model):
    batch = example("padded dictionary")
    lengths = [length for length, _ in _rows(batch)]
    assert min(lengths) < max(lengths) == batch["input_ids"].shape[1]
    terms = [length * LOSSES[loss](_step(form, model, row)) for length, row in _rows(batch)]
    wanted, found = sum(terms) / sum(lengths), LOSSES[loss](_step(form, model, batch))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = [
        torch.autograd.grad(one, trained, allow_unused=True, materialize_grads=True) for one in (found, wanted)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("loss", OF_THE_BATCH)
@pytest.mark.parametrize("form", FORMS)
def test_terms_over_the_whole_batch_do_not_see_what_is_padded(form, loss, model):
    """What stands at padded positions is changed; nothing else does."""
    batch = example("padded dictionary")
    other = {**batch, "input_ids": torch.where(batch["attention_mask"].bool(), batch["input_ids"], 7)}
    assert not torch.equal(other["input_ids"], batch["input_ids"])
    found, wanted = (OF_THE_BATCH[loss](_step(form, model, one)) for one in (batch, other))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_scores_count_what_counts(model):
    batch = example("padded dictionary")
    step = _step("plain", model, batch)
    for call, importance in step.importance.items():
        alone = [model.importance_of(row)[call].lower for _, row in _rows(batch)]
        alone = torch.cat([table.flatten(0, -2) for table in alone])
        counted = step.counted(importance.lower)
        torch.testing.assert_close(counted, alone, rtol=1e-9, atol=1e-9)
        assert torch.equal(active_counts(counted), active_counts(alone))
        assert torch.equal(alive_components(counted), alive_components(alone))


def test_callbacks_are_given_weights_too(model):
    module = StochasticDecomposition(PaddedTagger(), {"*": 3})
    seen = module.step(example("padded dictionary"), Noise((0,), torch.device("cpu")))
    assert seen.weights.of(torch.Size([4, 5])).gt(0).sum() == example("padded dictionary")["attention_mask"].sum()


def test_a_mask_given_by_position_weighs_as_one_given_by_name():
    tagger = decomposed("padded dictionary").double()
    batch = example("padded dictionary")

    class Positional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tagger.target

        def forward(self, ids, mask):
            return self.inner(input_ids=ids, attention_mask=mask)

    sites = {f"inner.{name}": 5 for name in tagger.site_names}
    call = PositionalCall(inputs=[0, 1], weights=1, output="logits")
    model = randomised(DecomposedModel(Positional(), sites, call=call).double())
    named = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", output="logits")
    assert torch.equal(named.arguments(batch).weights.values, batch["attention_mask"])
    found = model.clean((batch["input_ids"], batch["attention_mask"]))
    assert torch.equal(found.weights.values, batch["attention_mask"])
    assert torch.equal(found.output, tagger.clean(batch).output)
