"""Networks that add modulo a prime: what they compute, what they state, and how they are trained."""

import pytest
import torch
from torch import nn

from spd_lightning import ModularAddition, ModularAdditionTraining, UsageError
from spd_lightning.functional import fourier_planes, number_pairs, plane_invariance

FORMS = pytest.mark.parametrize(
    ("kind", "embedding"), [("bilinear", None), ("bilinear", 4), ("relu", None), ("relu", 4)]
)


def _network(kind="bilinear", embedding=None, modulus=5, width=6):
    torch.manual_seed(0)
    return ModularAddition(modulus, kind, width, embedding)


def _by_hand(network, a, b):
    table = torch.eye(5) if network.embedding is None else network.embed.weight
    x = torch.cat([table[a], table[b]])
    if network.kind == "bilinear":
        hidden = (network.left.weight @ x) * (network.right.weight @ x)
    else:
        hidden = torch.relu(network.hidden.weight @ x)
    return network.output.weight @ hidden


@FORMS
def test_it_computes_what_the_formula_says(kind, embedding):
    network = _network(kind, embedding)

    logits = network(torch.tensor([[[0, 4], [3, 3]]]))

    assert logits.shape == (1, 2, 5)
    torch.testing.assert_close(logits[0, 0], _by_hand(network, 0, 4))
    torch.testing.assert_close(logits[0, 1], _by_hand(network, 3, 3))


@FORMS
def test_sites_that_read_see_the_numbers_through_the_embedding(kind, embedding):
    network = _network(kind, embedding)
    pairs, _ = number_pairs(5)
    table = torch.eye(5) if embedding is None else network.embed.weight

    sites = network.fourier_sites()

    readers = ["left", "right"] if kind == "bilinear" else ["hidden"]
    assert list(sites) == [*(["embed"] if embedding else []), *readers, "output"]
    assert [sites[name].side for name in sites] == ["read"] * (len(sites) - 1) + ["write"]
    for name in readers:
        weight = network.get_submodule(name).weight
        on_numbers = weight @ sites[name].numbers.T
        expected = torch.cat([table[pairs[:, 0]], table[pairs[:, 1]]], 1) @ weight.T
        torch.testing.assert_close((on_numbers[:, pairs[:, 0]] + on_numbers[:, 5 + pairs[:, 1]]).T, expected)


@pytest.mark.parametrize("embedding", [None, 4])
def test_answer_matrices_give_the_logits(embedding):
    network = _network("bilinear", embedding)
    pairs, _ = number_pairs(5)
    one_hot = torch.eye(5)[pairs].flatten(1)

    logits = torch.einsum("bi,rij,bj->br", one_hot, network.answer_matrices(), one_hot)

    torch.testing.assert_close(logits, network(pairs), rtol=1e-4, atol=1e-5)
    assert _network("relu").answer_matrices() is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"modulus": 24}, "modulus must be an odd prime such as 23 or 47, got 24"),
        ({"modulus": 2}, "modulus must be an odd prime"),
        ({"modulus": -23}, "modulus must be an odd prime"),
        ({"modulus": 23.0}, "modulus must be a whole number"),
        ({"kind": "gelu"}, "kind must be one of 'bilinear', 'relu', got 'gelu'"),
        ({"width": 0}, "width must be at least 1"),
        ({"embedding": 0}, "embedding must be at least 1"),
    ],
)
def test_what_makes_no_network_is_refused(arguments, told):
    with pytest.raises(UsageError, match=f"^target: {told}"):
        ModularAddition(**arguments)


@pytest.mark.parametrize("embedding", [None, 4])
@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (torch.tensor([[0, 1], [7, 2]]), "modulus is 5, but its input holds 7; give the data the same modulus"),
        (torch.tensor([[0, -1]]), "modulus is 5, but its input holds -1"),
        (torch.zeros(3, 2), r"must be pairs of whole numbers, got \[3, 2\] of torch.float32; use data: ModularPairs"),
        (torch.zeros(2, 3, dtype=torch.long), r"must be pairs of whole numbers, got \[2, 3\]"),
    ],
)
def test_inputs_that_are_no_pairs_are_refused(pairs, told, embedding):
    with pytest.raises(UsageError, match=told):
        _network(embedding=embedding)(pairs)


def test_the_state_is_the_weights_alone():
    assert set(_network().state_dict()) == {"left.weight", "right.weight", "output.weight"}


def test_it_is_trained_until_it_generalises_and_then_no_longer(cache):
    network, recipe = _network(modulus=13, width=48), ModularAdditionTraining(steps=3000)

    recipe.prepare(network)

    pairs, sums = recipe.pairs(network, held_out=True)
    assert len(pairs) == 34
    assert torch.equal(network(pairs).argmax(-1), sums)
    assert network.flaws() == []
    last = max(recipe.curve)
    assert last < 2999
    assert (last + 1) % 100 == 0
    assert plane_invariance(network.answer_matrices(), fourier_planes(13, 2)) > 0.8


def test_it_is_trained_once(cache, monkeypatch):
    trained, loss = [], ModularAdditionTraining.loss
    monkeypatch.setattr(ModularAdditionTraining, "loss", lambda self, *given: trained.append(1) or loss(self, *given))
    states = []
    for seed in (0, 0, 1):
        network = _network()
        with pytest.warns(UserWarning, match="flawed"):
            ModularAdditionTraining(steps=3, seed=seed).prepare(network)
        states.append(network.left.weight)

    assert len(trained) == 2 * 3
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_pairs_are_split_by_the_seed():
    network, recipe = _network(), ModularAdditionTraining(train_fraction=0.6)

    (train, sums), (held, _) = (recipe.pairs(network, held_out) for held_out in (False, True))

    assert len(train) == 15
    assert torch.equal(sums, train.sum(1) % 5)
    assert {*map(tuple, train.tolist())} | {*map(tuple, held.tolist())} == {*map(tuple, number_pairs(5)[0].tolist())}
    other = ModularAdditionTraining(train_fraction=0.6, seed=1).pairs(network, False)[0]
    assert not torch.equal(train, other)


def test_one_that_does_not_generalise_is_named(cache):
    network = _network()

    with pytest.warns(UserWarning, match=r"flawed, it answers \d+ of 25 pairs wrongly; raise recipe steps"):
        ModularAdditionTraining(steps=1).prepare(network)

    pairs, sums = number_pairs(5)
    wrong = sum(int(network(pair).argmax()) != int(total) for pair, total in zip(pairs, sums, strict=True))
    assert network.flaws() == [f"it answers {wrong} of 25 pairs wrongly"]


@pytest.mark.parametrize("train_fraction", [0, 1, 1.5])
def test_a_share_that_leaves_nothing_is_refused(train_fraction):
    with pytest.raises(UsageError, match=r"^recipe: train_fraction must"):
        ModularAdditionTraining(train_fraction=train_fraction)


def test_another_network_is_refused(cache):
    with pytest.raises(UsageError, match="trains a ModularAddition, not a Linear; use recipe: null"):
        ModularAdditionTraining().prepare(nn.Linear(2, 2))
