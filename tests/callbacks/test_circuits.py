"""Scores of targets whose circuits are written down, for decompositions set by hand."""

import functools

import pytest
import torch
from torch.utils.data import DataLoader

from spd_lightning import DatasetBatches, GateMLP, PerSite, PositionalCall, StochasticDecomposition, UsageError
from spd_lightning.callbacks import AttentionHeads, ImportanceHeatmaps, MechanismRecovery
from spd_lightning.data import InductionSequences
from spd_lightning.targets import HandMadeInduction, PingPong
from tests.callbacks.perfect import GAIN, Rows, Unprobed, perfect_decomposition

SITES = [f"layers.{layer}.{part}" for layer in range(2) for part in "qkvo"]


@torch.no_grad()
def _by_hand(target, extra=1, **options):
    """Every known term as a component, and some idle ones; importances are the inner activations, as far as [0, 1]."""
    known = target.known_mechanisms()
    counts = {name: mechanisms.count + extra for name, mechanisms in known.items()}
    settings = {"importance": functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[]))} | options
    module = StochasticDecomposition(target, counts, **settings)
    module.setup("test")
    for name, parts in module.model.components.items():
        terms = known[name].terms
        parts.V.copy_(torch.cat([terms.read.T, torch.zeros(parts.V.shape[0], extra)], dim=1))
        parts.U.copy_(torch.cat([terms.write, torch.zeros(extra, parts.U.shape[1])]))
        gate = module.model.importance_function.functions[name]
        gate.weights[0].fill_(GAIN)
        gate.biases[0].zero_()
    return module


def test_terms_set_by_hand_are_found(run):
    module = _by_hand(PingPong(n_circuits=9, group=3, width=5))

    scores = run(module, Rows([torch.rand(4, 9)], 9), MechanismRecovery()).scores

    for site in ("ping", "pong"):
        assert scores[f"test/recovery/{site}/mechanisms"] == scores[f"test/recovery/{site}/terms_found"] == 9
        assert scores[f"test/recovery/{site}/matched_cosine_min"] == pytest.approx(1)
        assert scores[f"test/recovery/{site}/matched_length"] == pytest.approx(1)
        assert scores[f"test/recovery/{site}/term_contradictions_0.1"] == 0


def test_one_component_for_a_group_is_not_its_terms(run):
    module = _by_hand(PingPong(n_circuits=9, group=3, width=5))
    with torch.no_grad():  # component 0 does the work of the first group
        parts = module.model.components["ping"]
        parts.V[:, 0] = parts.V[:, :3].sum(1)
        parts.V[:, 1:3] = 0

    scores = run(module, Rows([torch.rand(4, 9)], 9), MechanismRecovery()).scores

    assert scores["test/recovery/ping/terms_found"] == 6
    assert scores["test/recovery/ping/matched_cosine"] == pytest.approx((6 + 3**-0.5) / 9)
    assert scores["test/recovery/ping/term_contradictions_0.1"] == 4  # two idle, and two leaks of the one
    assert scores["test/recovery/pong/terms_found"] == 9


def _induction(rows=64):
    data = InductionSequences(size=rows, split="test")
    return _by_hand(HandMadeInduction(), call=PositionalCall(labels=1)), Unprobed(list(DataLoader(data, rows)))


def test_importances_are_counted_at_every_position(run):
    module, data = _induction()

    scores = run(module, data, MechanismRecovery(), ImportanceHeatmaps()).scores

    known = module.target.known_mechanisms()
    importances = module.model.importance_of(module.target.probes())
    for name in SITES:
        table, needed = importances[name].lower[..., :-1], known[name].terms.needed
        wrong = ((table > 0.1) & ~needed).sum() + ((table < 0.9) & needed).sum()
        assert scores[f"test/recovery/{name}/term_contradictions_0.1"] == wrong
        assert scores[f"test/recovery/{name}/terms_found"] == known[name].count
    assert scores["test/recovery/layers.0.v/term_contradictions_0.1"] > 0  # on at every token, needed at one


def test_heads_are_ablated_one_by_one(run):
    module, data = _induction()

    scores = run(module, data, AttentionHeads(draws=2)).scores

    assert scores["test/heads/accuracy"] == 1
    for layer in range(2):
        alive = scores[f"test/heads/{layer}.0/components"]
        assert alive == (30 if layer == 0 else 32)  # q and k of layer 0 have 7 terms, all others 8
        without = scores[f"test/heads/{layer}.0/accuracy_without"]
        assert without == scores[f"test/heads/{layer}.0/accuracy_without_head"] < 0.5  # its components are all of it
        assert 0 < scores[f"test/heads/{layer}.0/acting"] < 1
        assert 0 < scores[f"test/heads/{layer}.0/concentration"] < 1


def test_other_components_leave_the_answer_alone(run):
    module, data = _induction()
    with torch.no_grad():  # one head dies, so that there are idle others to ablate
        for name in SITES[:4]:
            module.model.components[name].V.zero_()

    scores = run(module, data, AttentionHeads(draws=2)).scores

    assert scores["test/heads/0.0/components"] == 0
    assert scores["test/heads/0.0/accuracy_without"] == 1  # the delta component still does its work
    assert scores["test/heads/1.0/accuracy_without_others"] == 1


def test_other_targets_have_no_heads(run, examples):
    with pytest.raises(UsageError, match="AttentionHeads: looks at an AttentionOnly, not at a ToyModelOfSuperposition"):
        run(perfect_decomposition([1.0, 1.0, 1.0]), Rows(examples), AttentionHeads())


def test_data_without_answers_are_not_scored(run):
    module, _ = _induction()
    tokens = InductionSequences(size=8, split="test").tokens

    scores = run(module, Unprobed([tokens]), AttentionHeads()).scores

    assert not [name for name in scores if "heads" in name]


def test_sequences_are_drawn_once_and_by_split():
    one, other = InductionSequences(size=50), InductionSequences(size=50, split="test")

    assert torch.equal(one.tokens, InductionSequences(size=50).tokens)
    assert not torch.equal(one.tokens, other.tokens)
    assert len(one) == 50
    assert one[3][1] == one.answers[3]
    batches = DatasetBatches(train=one, batch_size=10)
    assert next(iter(batches.train_dataloader()))[0].shape == (10, 10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vocabulary": 2}, "vocabulary must be at least 3, got 2"),
        ({"length": 4}, "length must be at least 5, got 4"),
        ({"split": "val"}, "split must be one of"),
        ({"size": 0}, "size must be at least 1, got 0"),
    ],
)
def test_wrong_sequences_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        InductionSequences(**settings)
