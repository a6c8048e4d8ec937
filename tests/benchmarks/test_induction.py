"""What is measured on induction networks, on components that are the terms that were written down."""

import functools
from types import SimpleNamespace

import pytest
import torch

from benchmarks.head_clusters import agreement_of_firings, agreement_of_graph, by_sequence
from benchmarks.induction_edits import for_token, head_edits, head_lines, scores, token_lines
from spd_lightning import DecomposedModel, GateMLP, PerSite
from spd_lightning.analysis import Edit, Firings, edited
from spd_lightning.analysis.attribution_graph import COMPONENT, OUTPUT
from spd_lightning.data import InductionSequences
from spd_lightning.targets import HandMadeInduction

VOCABULARY, LENGTH = 5, 7


@pytest.fixture
@torch.no_grad()
def model():
    """A component for every term, and one that is never important; term ``t`` of most sites is token ``t``'s."""
    target = HandMadeInduction(VOCABULARY, LENGTH, sharpness=12.0, logit=12.0)
    known = target.known_mechanisms()
    importance = functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[]))
    model = DecomposedModel(target, {name: one.count + 1 for name, one in known.items()}, importance=importance)
    for name, one in known.items():
        parts, function = model.components[name], model.importance_function.functions[name]
        parts.V.zero_()[:, :-1] = one.terms.read.T
        parts.U.zero_()[:-1] = one.terms.write
        function.weights[0].zero_()
        function.biases[0].fill_(1.0)
        function.biases[0].view(-1)[-1] = -1.0
    return model


@pytest.fixture
def data():
    return InductionSequences(VOCABULARY, LENGTH, size=200, split="test")


@torch.no_grad()
def test_without_its_components_a_head_is_silent(model, data):
    edits = head_edits(model, [data.tokens])
    assert [(edit.site, edit.component) for edit in edits] == [
        (f"layers.1.{part}", number) for part in "qkvo" for number in range(VOCABULARY)
    ]
    target, removed, silent = head_lines(model, edits, data)
    assert removed.split(": ")[1] == silent.split(": ")[1] != target.split(": ")[1]
    assert target.endswith("right 1.000")


@torch.no_grad()
def test_scores_are_those_of_each_token(model, data):
    found = scores(model.target, data)
    rows = [row for row in range(len(data)) if data.tokens[row, -1] == 3]
    losses = [-model.target(data.tokens[row][None]).log_softmax(-1)[0, data.answers[row]] for row in rows]
    assert found[0, 3].item() == pytest.approx(sum(losses).item() / len(rows), rel=1e-4)
    assert found[1].tolist() == [1.0] * VOCABULARY


@torch.no_grad()
def test_a_token_s_value_is_enough_for_its_induction(model, data):
    needless, value = Edit("layers.1.v", VOCABULARY), Edit("layers.0.v", 2)
    chosen = for_token(model, 2, [needless, value, Edit("layers.0.v", 3)], data)
    right = scores(edited(model, chosen), data)[1]
    kept = torch.arange(VOCABULARY) != 2
    assert chosen[:2] == [needless, value]
    assert right[2] < 0.5
    assert (right[kept] == 1).sum() >= VOCABULARY - 2


@torch.no_grad()
def test_tokens_are_told_in_three_lines(model, data):
    one, below, others = token_lines(model, data, data)
    assert one.startswith("one token: ")
    assert below.endswith(f"of {VOCABULARY} tokens")
    assert others.startswith("the others: ")


def test_sequences_are_units_of_all_their_positions():
    firings = Firings({"layers.0.q": 1, "layers.1.q": 1}, 6, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 2, 4, 5]))
    found = by_sequence(firings, 3)
    assert found.n_units == 2
    assert list(zip(found.components.tolist(), found.units.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 1)]


def test_clusters_that_are_the_layers_agree_with_them():
    components, units = torch.arange(4).repeat_interleave(20), torch.arange(20).repeat(4)
    units = units + 20 * (components >= 2)
    firings = Firings({"layers.0.q": 2, "layers.1.q": 2}, 40, components, units)
    assert agreement_of_firings(firings) == (2, 1.0)


def test_communities_that_are_the_layers_agree_with_them():
    graph = SimpleNamespace(
        kind=torch.tensor([COMPONENT] * 6 + [OUTPUT]),
        place=torch.tensor([0, 0, 0, 1, 1, 1, 2]),
        places=("layers.0.q", "layers.1.q", "output"),
        source=torch.tensor([0, 0, 1, 3, 3, 4, 2, 5]),
        target=torch.tensor([1, 2, 2, 4, 5, 5, 3, 6]),
        absolute=torch.tensor([1.0, 1, 1, 1, 1, 1, 0.1, 9]),
    )
    assert agreement_of_graph(graph, 1.0) == (2, 1.0)
