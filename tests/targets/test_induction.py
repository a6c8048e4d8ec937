"""Attention layers alone, and induction written down by hand."""

import json

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.functional import attention_pattern, induction_sequences, keyed_generator
from spd_lightning.targets import AttentionOnly, HandMadeInduction
from spd_lightning.targets.attention_only import sinusoids

SITES = [f"layers.{layer}.{part}" for layer in range(2) for part in "qkvo"]


def _slowly(target, tokens):
    """Logits of one sequence, position by position and head by head."""
    stream = [target.embed.weight[token] for token in tokens]
    for layer in target.layers:
        d_head, added = layer.q.out_features // layer.heads, []
        for t in range(len(stream)):
            mixed = []
            for head in range(layer.heads):
                rows = slice(head * d_head, (head + 1) * d_head)
                q = layer.q.weight[rows] @ (stream[t] + target.positions[t])
                keys = [layer.k.weight[rows] @ (stream[s] + target.positions[s]) for s in range(t + 1)]
                weights = torch.stack([q @ key / d_head**0.5 for key in keys]).softmax(0)
                mixed.append(sum(w * (layer.v.weight[rows] @ stream[s]) for s, w in enumerate(weights)))
            added.append(layer.o.weight @ torch.cat(mixed))
        stream = [old + new for old, new in zip(stream, added, strict=True)]
    return target.unembed.weight @ stream[-1]


@pytest.mark.parametrize(("layers", "heads", "d_head"), [(1, 1, None), (2, 2, None), (2, 3, 5)])
def test_attention_only_equals_a_loop(layers, heads, d_head):
    torch.manual_seed(layers)
    target = AttentionOnly(vocabulary=7, length=5, width=6, n_layers=layers, heads=heads, d_head=d_head).double()
    tokens = torch.randint(7, (3, 5))

    torch.testing.assert_close(target(tokens), torch.stack([_slowly(target, row) for row in tokens]))


def test_it_is_rebuilt_from_its_description():
    target = AttentionOnly(vocabulary=7, length=5, width=6, n_layers=3, heads=2, d_head=4)

    again = rebuilt(json.loads(json.dumps(describe(target))), torch.nn.Module, "target")

    again.load_state_dict(target.state_dict())
    tokens = torch.randint(7, (3, 5))
    assert torch.equal(again(tokens), target(tokens))


def test_patterns_look_back_alone_and_sum_to_one():
    pattern = attention_pattern(torch.randn(2, 4, 6), torch.randn(2, 4, 6), heads=3)

    assert pattern.shape == (2, 3, 4, 4)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 3, 4))
    assert (pattern.triu(1) == 0).all()


def test_sinusoids_by_hand():
    assert sinusoids(2, 4)[1].tolist() == pytest.approx([0.841471, 0.540302, 0.0099998, 0.99995], abs=1e-5)
    assert sinusoids(3, 4, base=4)[2].tolist() == pytest.approx([0.909297, -0.416147, 0.841471, 0.540302], abs=1e-5)
    assert AttentionOnly(4, 3, 4, position_gain=3, position_base=4).positions[2, 2].item() == pytest.approx(2.524413)


def test_sequences_ask_for_what_followed():
    tokens, answers = induction_sequences(500, 6, 9, keyed_generator("test"))

    for row, answer in zip(tokens.tolist(), answers.tolist(), strict=True):
        first = row.index(row[-1])
        assert 1 <= first <= 6
        assert row.count(row[-1]) == 2
        assert row[first + 1] == answer != row[-1]


@pytest.mark.parametrize(("vocabulary", "length"), [(8, 10), (5, 7), (3, 12)])
def test_hand_made_induction_answers_right(vocabulary, length):
    target = HandMadeInduction(vocabulary, length)
    tokens, answers = induction_sequences(400, vocabulary, length, keyed_generator("test", length))

    assert (target(tokens).argmax(1) == answers).all()


def test_terms_add_up_to_the_weights():
    target = HandMadeInduction(6, 9)
    known = target.known_mechanisms()

    assert list(known) == SITES
    for name, mechanisms in known.items():
        terms = mechanisms.terms
        torch.testing.assert_close(terms.write.T @ terms.read, target.get_parameter(f"{name}.weight"))
        assert len(terms.read) == mechanisms.count == len(terms.groups)
        assert {*terms.groups} == {int(name.split(".")[1])}


def _masked(target, tokens, masks):
    """Logits where every term of a site runs as far as its mask says, ``[rows, length, terms]``."""
    known, stream = target.known_mechanisms(), target.embed(tokens)
    for layer in range(2):

        def run(part, x, layer=layer):
            name = f"layers.{layer}.{part}"
            return ((x @ known[name].terms.read.T) * masks[name]) @ known[name].terms.write

        placed = stream + target.positions
        pattern = attention_pattern(run("q", placed), run("k", placed), 1)[:, 0]
        stream = stream + run("o", pattern @ run("v", stream))
    return target.unembed(stream[:, -1])


def _divergence(target, masks):
    clean, tokens = target(target.probes()).log_softmax(-1), target.probes()
    return (clean.exp() * (clean - _masked(target, tokens, masks).log_softmax(-1))).sum(-1)


@torch.no_grad()
def test_terms_are_needed_where_it_is_said_and_nowhere_else():
    target = HandMadeInduction()
    needed = {name: known.terms.needed.float() for name, known in target.known_mechanisms().items()}
    whole = {name: torch.ones_like(mask) for name, mask in needed.items()}

    assert all((mask.sum((1, 2)) == 1).all() for mask in needed.values())
    assert _divergence(target, whole).max() < 1e-6
    assert _divergence(target, needed).mean() < 5e-3  # what a softmax leaves to the other positions
    for name in SITES:
        assert _divergence(target, whole | {name: 1 - needed[name]}).min() > 0.1
        assert _divergence(target, whole | {name: needed[name]}).mean() < 5e-3


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: HandMadeInduction(vocabulary=2), "vocabulary must be at least 3, got 2"),
        (lambda: HandMadeInduction(length=4), "length must be at least 5, got 4"),
        (lambda: HandMadeInduction(sharpness=0.0), "sharpness must be a finite number above 0, got 0.0"),
        (lambda: AttentionOnly(4, 4, 6, heads=4), "width must be a multiple of heads, 4, got 6"),
        (lambda: AttentionOnly(4, 4, 5), "width must be even, got 5"),
        (lambda: AttentionOnly(4, 4, 6, position_gain=0.0), "position_gain must be above 0, got 0.0"),
        (lambda: AttentionOnly(4, 4, 6, position_base=-2.0), "position_base must be above 0, got -2.0"),
        (lambda: AttentionOnly(4, 4, 6, position_base=float("inf")), "position_base must be a finite number, got inf"),
        (lambda: AttentionOnly(4, 4, 6)(torch.zeros(1, 5).long()), "must have 4 tokens, got 5"),
    ],
)
def test_wrong_sizes_are_refused(build, said):
    with pytest.raises(UsageError, match=said):
        build()
