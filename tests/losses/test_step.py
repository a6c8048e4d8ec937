"""What losses share: positions that count, tables of importances, streams of noise."""

from functools import partial

import pytest
import torch
from torch import nn

from spd_lightning import DecomposedModel, GateMLP, PerSite
from spd_lightning.functional.weights import Weights
from spd_lightning.losses import (
    ContributionSparsity,
    FrequencyMinimality,
    ImportanceCovariance,
    ImportanceMinimality,
    Noise,
    RankPenalty,
    Reconstruction,
    Step,
)
from spd_lightning.model import AttributedForm, FastForm, FastOptions, KeywordCall, PlainForm
from tests.comparison import assert_same_with_gradients
from tests.model.attributed import toy

LENGTHS = torch.tensor([2, 4, 1])
MASK = (torch.arange(4) < LENGTHS[:, None]).double()
FORMS = {"plain": PlainForm, "fast": partial(FastForm, options=FastOptions(nodes=0, compiled=False))}


class Classifier(nn.Module):
    """Token layers, one of them called twice, and a pooled head; padding reaches no other position."""

    def __init__(self):
        super().__init__()
        self.up, self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, mask):
        hidden = self.layer(self.layer(self.up(x).tanh()).tanh()) * mask[..., None]
        return self.head(hidden.sum(1) / mask.sum(1, keepdim=True))


@pytest.fixture
def model():
    gates = partial(PerSite, function=partial(GateMLP, hidden=[3]))
    call = KeywordCall(["x", "mask"], weights="mask")
    model = DecomposedModel(Classifier().double(), {"*": 3}, call=call, importance=gates)
    with torch.no_grad():
        for parameter in (*model.components.parameters(), *model.importance_function.parameters()):
            parameter.copy_(0.7 * torch.randn(parameter.shape))
    return model


def _step(model, batch, form="plain"):
    return Step.seen(FORMS[form](model, batch), Noise(("step",), torch.device("cpu")))


def _batch(pad=None):
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return {"x": x if pad is None else torch.where(MASK[..., None] > 0, x, pad), "mask": MASK}


TERMS = {
    "importance": ImportanceMinimality(p=0.9),
    "frequency": FrequencyMinimality(),
    "contributions": ContributionSparsity(),
    "covariance": ImportanceCovariance(),
    "rank": RankPenalty(),
    "stochastic": Reconstruction(),
    "subset": Reconstruction(routing="subset"),
    "some": Reconstruction(routing="subset", subset_probability=0.5),
    "layerwise": Reconstruction(routing="layerwise", sources="binomial"),
    "shared adversary": Reconstruction(sources="adversarial"),
    "adversary": Reconstruction(sources="adversarial", adversary_scope="per_example"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TERMS)
def test_padding_weighs_nothing_at_sites_of_any_positions(model, name, form):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    one, other = (TERMS[name](_step(model, _batch(pad), form)) for pad in (7.0, None))
    assert_same_with_gradients(one, other, trained)


@pytest.mark.parametrize("name", TERMS)
def test_both_forms_agree_on_calls_and_padding(model, name):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fast, plain = (TERMS[name](_step(model, _batch(), form)) for form in ("fast", "plain"))
    assert_same_with_gradients(fast, plain, trained)


def test_weights_fit_what_they_are_asked_for(model):
    step = _step(model, _batch())
    shapes = {call: importance.lower.shape for call, importance in step.importance.items()}
    assert list(shapes) == ["up", "layer@0", "layer@1", "head"]
    for call, shape in shapes.items():
        lower = step.importance[call].lower
        expected = MASK / 7 if len(shape) == 3 else torch.full((3,), 1 / 3).double()
        torch.testing.assert_close(step.weights_of(lower), expected)
        assert step.counted(lower).shape == ((7, 3) if len(shape) == 3 else (3, 3))
    torch.testing.assert_close(step.counted(step.importance["up"].lower), step.importance["up"].lower[MASK > 0])


def test_without_weights_everything_counts_and_keeps_its_shape(make_model, make_step, x):
    step = make_step(make_model(), x)
    lower = step.importance["linear1"].lower
    assert step.weights_of(lower) is None
    assert step.counted(lower) is lower


def test_positions_that_do_not_count_never_do(model, make_model, x):
    padded = _step(model, _batch()).unweighted()
    assert torch.equal(padded.weights.values, MASK)
    form = PlainForm(make_model(), x)
    noise, values = Noise(("step",), x.device), torch.rand(x.shape[:-1])
    for weights in (Weights(values), Weights(values / values.sum(), normalised=True), Weights()):
        assert Step(form, noise, weights=weights).unweighted().weights.values is None


def test_every_site_call_is_a_table_of_its_own(model):
    step = _step(model, _batch())
    assert step.tables == ["up", "layer@0", "layer@1", "head"]
    assert all(step.table_of(call) == call for call in step.tables)


def test_components_that_span_sites_have_one_table():
    attributed, x = toy(), torch.rand(6, 5, dtype=torch.float64)
    form = AttributedForm(attributed, x)
    form.choose(torch.ones(6, 4, dtype=torch.float64))
    step = Step.seen(form, Noise(("step",), x.device))
    assert list(step.importance) == ["linear1", "linear2"]
    assert step.tables == ["linear1"]
    assert step.table_of("linear2") == "linear1"


def test_sites_with_the_same_positions_share_one_draw_of_a_subset(model, monkeypatch):
    seen = []
    step = _step(model, _batch())
    masked = step.form.masked
    monkeypatch.setattr(step.form, "masked", lambda masks, routing=None: seen.append(routing) or masked(masks, routing))
    Reconstruction(routing="subset")(step)
    (routing,) = seen
    tokens = torch.stack([routing[call] for call in ("up", "layer@0", "layer@1")])
    assert tokens.shape == (3, 3, 4)
    assert routing["head"].shape == (3,)


def test_kept_outputs_come_by_name(model):
    step = _step(model, _batch())
    kept = step.keeping({}, ["head", "up"])
    torch.testing.assert_close(kept["head"], step.clean.output)
    torch.testing.assert_close(kept["up"], model.target.up(step.batch["x"]))


def test_a_single_process_shares_nothing(model):
    step = _step(model, _batch())
    assert step.among_processes() is step
    assert step.with_first_row_noise() is step
