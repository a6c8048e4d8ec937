"""Attention heads of a network whose heads are written down."""

from types import SimpleNamespace

import pytest
import torch

from spd_lightning import DecomposedModel
from spd_lightning.analysis import attention_flow, components_of_head, head_logits, silent_head
from spd_lightning.targets import AttentionOnly


def test_attention_is_followed_back_through_layers():
    first = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0, 1]])
    second = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.8, 0.2]])

    below, above = attention_flow([first[None, None], second[None, None]])

    assert above.writes.tolist() == [[0, 0, 1]]
    assert above.reads[0, 0].tolist() == pytest.approx([0, 0.8, 0.2])
    assert below.writes[0].tolist() == pytest.approx([0, 0.8, 1])  # the last position holds all of itself, and no more
    assert below.reads[0, 0].tolist() == pytest.approx([0.72, 0.08, 1])


def test_heads_of_a_layer_add_up():
    pattern = torch.tensor([[[[1.0, 0], [1, 0]], [[1, 0], [0, 1.0]]]])  # one head looks back, the other at itself

    below, above = attention_flow([pattern, pattern])

    assert above.reads.tolist() == [[[1, 0], [0, 1]]]
    assert below.writes.tolist() == [[1, 1]]


def test_live_components_belong_to_the_head_that_holds_most_of_them():
    U = torch.tensor([[3.0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0.5], [0, 2, 0, 0]])
    whole = SimpleNamespace(rows=None)
    components = {
        "layers.0.v": SimpleNamespace(U=U, V=torch.ones(5, 4), site=whole),
        "layers.0.o": SimpleNamespace(U=torch.ones(4, 5), V=U.T, site=whole),
        "layers.1.v": SimpleNamespace(U=U, V=torch.ones(5, 4), site=whole),
    }
    alive = {name: torch.tensor([True, True, True, False]) for name in components}

    assert components_of_head(components, alive, "layers.0", 0, 2) == {"layers.0.v": [0, 2], "layers.0.o": [0, 2]}
    assert components_of_head(components, alive, "layers.0", 1, 2) == {"layers.0.v": [1], "layers.0.o": [1]}


def test_a_silent_head_writes_nothing_and_speaks_again():
    torch.manual_seed(0)
    target = AttentionOnly(vocabulary=5, length=4, width=8, n_layers=2, heads=2)
    tokens = torch.randint(5, (3, 4))
    whole = target(tokens)
    taken = target.state_dict()
    taken = {**taken, "layers.1.o.weight": taken["layers.1.o.weight"].clone()}
    taken["layers.1.o.weight"][:, 4:] = 0

    with silent_head(target, 1, 1):
        silent = target(tokens)

    assert torch.equal(target(tokens), whole)
    target.load_state_dict(taken)
    assert torch.allclose(silent, target(tokens), atol=1e-6)
    assert not torch.allclose(silent, whole, atol=1e-2)


@torch.no_grad()
def test_what_heads_add_is_all_that_the_last_token_does_not_say():
    torch.manual_seed(0)
    target, tokens = AttentionOnly(6, 5, 8, n_layers=3, heads=2), torch.randint(6, (7, 5))

    added = head_logits(target, tokens)

    assert added.shape == (7, 3, 2, 6)
    last = target.unembed(target.embed(tokens[:, -1]))
    torch.testing.assert_close(last + added.sum((1, 2)), target(tokens))


@torch.no_grad()
def test_what_a_head_adds_is_what_is_missed_without_it():
    torch.manual_seed(0)
    target, tokens = AttentionOnly(6, 5, 8, n_layers=2, heads=4), torch.randint(6, (7, 5))
    whole, added = target(tokens), head_logits(target, tokens)

    target.layers[1].o.weight[:, 4:6] = 0  # the third head of the last layer writes nothing

    torch.testing.assert_close(whole - target(tokens), added[:, 1, 2])


def test_a_head_may_be_sites_of_its_own():
    model = DecomposedModel(AttentionOnly(6, 5, 8, heads=2), {"layers.0.[kv][4:8]": 3, "layers.0.q[2:4,6:8]": 3})
    alive = {name: torch.ones(3, dtype=torch.bool) for name in model.components}
    with torch.no_grad():
        model.components["layers.0.q[2:4,6:8]"].U.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 2], [1, 1, 1, 1]]))
    components = dict(model.components.items())

    first, second = (components_of_head(components, alive, "layers.0", head, 2) for head in range(2))

    assert first == {"layers.0.q[2:4,6:8]": [0, 2], "layers.0.k[4:8]": [], "layers.0.v[4:8]": []}
    assert second == {"layers.0.q[2:4,6:8]": [1, 2], "layers.0.k[4:8]": [0, 1, 2], "layers.0.v[4:8]": [0, 1, 2]}
