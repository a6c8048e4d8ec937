"""Pairs of query and key components, against products written out and against scores of networks without them."""

import math
import sys

import pytest
import torch

from spd_lightning import AttributedModel, DecomposedModel, UsageError
from spd_lightning.analysis import attention_layers, pair_scores, query_key
from spd_lightning.figures import query_key_maps
from tests.analysis.circuit_systems import IMPORTANCE, known_induction, sequences
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import example
from tests.targets.hugging_face import built

SERVED = {
    "gpt2": "network.transformer.h.0.attn",
    "llama": "network.model.layers.0.self_attn",
    "transformer encoder": "network.layers.0.self_attn",
}


def _model(name):
    """A network of the list with random components, in double precision, so that rounding hides nothing."""
    return randomised(decomposed(name)).double()


def _batch(name):
    return example(name, double=True)


def _rotated(vector, position, base=10_000.0):
    """Rotary positions as RoFormer has them, on pairs ``(i, i + d / 2)``, number by number."""
    half, turned = len(vector) // 2, vector.clone()
    for i in range(half):
        angle = position * base ** (-2 * i / len(vector))
        a, b = vector[i].item(), vector[i + half].item()
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return turned


def _all_rotated(states):
    """Every vector of ``[rows, heads, length, d]`` at its position."""
    turned = states.clone()
    for place in torch.ones(states.shape[:3]).nonzero().tolist():
        turned[*place] = _rotated(states[*place], place[2])
    return turned


def _of_head(vector, head, heads):
    return vector.reshape(heads, -1)[head]


def _written_out(model, layer, batch, head, query, key):
    """``(x_t V_c)(U_c · R U_c')(V_c' x_t') / sqrt(d)`` for every pair of positions."""
    inputs = model.clean(batch).site_inputs
    q, k = model.components[layer.query], model.components[layer.key]
    u, w = _of_head(q.U[query], head, layer.heads), k.U[key]
    w = _of_head(w, head * layer.key_heads // layer.heads, layer.key_heads)
    rows, length = inputs[layer.query].shape[:2]
    table = torch.zeros(rows, length, length, dtype=torch.double)
    for row in range(rows):
        for t in range(length):
            for s in range(length):
                rotary = layer.frequencies is not None
                one, other = (_rotated(u, t), _rotated(w, s)) if rotary else (u, w)
                read = inputs[layer.query][row, t] @ q.V[:, query]
                written = inputs[layer.key][row, s] @ k.V[:, key]
                table[row, t, s] = read * (one @ other) * written / math.sqrt(len(u))
    return table


@torch.no_grad()
@pytest.mark.parametrize("name", SERVED)
def test_a_pair_is_its_product_written_out(name):
    model, batch = _model(name), _batch(name)
    layer = attention_layers(model)[0]

    assert layer.name == SERVED[name]
    for head, query, key in ((0, 1, 2), (layer.heads - 1, 3, 0)):
        found = pair_scores(model, layer, batch, head, query, key)
        assert found.abs().max() > 1e-6
        torch.testing.assert_close(found, _written_out(model, layer, batch, head, query, key), rtol=1e-5, atol=1e-9)


def _scores(model, layer, batch, off):
    """Scores before the softmax when components run alone, some of them off, as ``transformers`` computes them."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    masks = {site: torch.ones(model.components[site].n_components).double() for site in (layer.query, layer.key)}
    for site, components in off.items():
        masks[site][components] = 0
    inputs, sides = model.clean(batch).site_inputs, {}
    for site, heads in ((layer.query, layer.heads), (layer.key, layer.key_heads)):
        output = model.components[site](inputs[site], model.checked_masks(masks)[site])
        states = output.unflatten(-1, (heads, -1)).transpose(1, 2)
        sides[site] = states
    q, k = sides[layer.query], sides[layer.key]
    if layer.frequencies is not None:
        rotary = next(m for m in model.target.modules() if isinstance(m, LlamaRotaryEmbedding))
        cos, sin = rotary(q, torch.arange(q.shape[2])[None])
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
    k = k.repeat_interleave(layer.heads // layer.key_heads, 1)
    return q @ k.transpose(-1, -2) * layer.scale


@torch.no_grad()
@pytest.mark.parametrize("name", SERVED)
def test_a_pair_is_what_scores_lose_without_it(name):
    """What both together take away, less what each does by itself: biases are in neither."""
    model, batch = _model(name), _batch(name)
    layer = attention_layers(model)[1]
    q, k = layer.query, layer.key

    whole = _scores(model, layer, batch, {})
    without_query, without_key = _scores(model, layer, batch, {q: [2]}), _scores(model, layer, batch, {k: [1]})
    without_both = _scores(model, layer, batch, {q: [2], k: [1]})

    wanted = whole - without_query - without_key + without_both
    for head in range(layer.heads):
        found = pair_scores(model, layer, batch, head, 2, 1)
        assert found.abs().max() > 1e-6
        torch.testing.assert_close(found, wanted[:, head], rtol=1e-5, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_heads_lie_where_the_network_itself_has_them(family):
    """Attention from our layout of heads, scale and rotary positions is the network's own, biases and all."""
    network = built(family)
    network.set_attn_implementation("eager")
    sites = {"gpt2": {"*.c_attn[q]": 2, "*.c_attn[k]": 2}}.get(family, {"*.[qk]_proj": 2})
    model = DecomposedModel(network, sites)
    ids = torch.arange(7)[None] + torch.tensor([[3], [90]])

    own = network(ids, output_attentions=True).attentions
    inputs = model.clean({"input_ids": ids}).site_inputs
    for number, layer in enumerate(attention_layers(model)):
        states = {}
        for site, heads in ((layer.query, layer.heads), (layer.key, layer.key_heads)):
            one = model.components[site].site
            states[site] = one.output(one.own(inputs[site])).unflatten(-1, (heads, -1)).transpose(1, 2)
        q, k = states[layer.query], states[layer.key].repeat_interleave(layer.heads // layer.key_heads, 1)
        if layer.frequencies is not None:
            q, k = _all_rotated(q), _all_rotated(k)
        scores = (q @ k.transpose(-1, -2) * layer.scale).masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(scores.softmax(-1), own[number], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_strengths_are_means_over_pairs_of_positions():
    model, batch = _model("llama"), _batch("llama")  # rows of 5, 3, 1 and 4 tokens, padded
    layer = attention_layers(model)[0]
    (found,) = query_key(model, [layer], [batch, batch], offsets=(0, 2, -1), threshold=0.3)

    importances, inputs = model.importance_of(batch), model.clean(batch).site_inputs
    counted = batch["attention_mask"].bool()
    for site, numbers in ((layer.query, found.queries), (layer.key, found.keys)):
        alive = [c for c in range(4) if (importances[site].lower[..., c][counted] > 0.3).any()]
        assert numbers.tolist() == alive
    assert found.pairs.tolist() == [2 * 13, 2 * (3 + 1 + 2), 2 * (4 + 2 + 3)]

    for m, query in enumerate(found.queries.tolist()):
        for n, key in enumerate(found.keys.tolist()):
            for head in (0, 3):
                table = _written_out(model, layer, batch, head, query, key)
                for at, offset in enumerate(found.offsets):
                    seen = [
                        table[row, t, t - offset].item()
                        for row, length in enumerate(counted.sum(1).tolist())
                        for t in range(length)
                        if 0 <= t - offset < length
                    ]
                    mean, square = sum(seen) / len(seen), sum(value**2 for value in seen) / len(seen)
                    assert found.mean[head, at, m, n].item() == pytest.approx(mean, rel=1e-4, abs=1e-10)
                    assert found.rms[head, at, m, n].item() == pytest.approx(math.sqrt(square), rel=1e-4)

    query, key = found.queries[0].item(), found.keys[-1].item()
    sign, q, k = 1.0, model.components[layer.query], model.components[layer.key]
    for site, parts, number in ((layer.query, q, query), (layer.key, k, key)):
        important = counted & (importances[site].lower[..., number] > 0.3)
        sign *= (inputs[site][important] @ parts.V[:, number]).sum().sign().item()
    u, w = _of_head(q.U[query], 3, 4), _rotated(_of_head(k.U[key], 1, 2), -2)
    static = sign * q.V[:, query].norm() * (u @ w) * k.V[:, key].norm() / math.sqrt(2)
    assert found.static[3, 1, 0, -1].item() == pytest.approx(static.item(), rel=1e-5)


@torch.no_grad()
def test_the_induction_head_matches_equal_tokens_and_the_other_looks_one_back():
    model, (tokens, _) = known_induction(), sequences(64)
    below, above = query_key(model, attention_layers(model), [tokens], offsets=range(6))

    # layer 1: the query of a token and the key of the same token before; U and U' are one unit vector
    for m, n in above.strongest(0, 8):
        assert above.queries[m] == above.keys[n]
    assert above.static[0, 0].diagonal().tolist() == pytest.approx([5.0] * 8, rel=1e-5)
    assert not (above.static[0, 0] - above.static[0, 0].diagonal().diag()).any()
    # layer 0: position p + 1 asks for position p, and nothing else
    assert below.queries.tolist() == below.keys.tolist() == list(range(7))
    assert below.mean[0, 1].diagonal().gt(0).all()
    for offset in (0, 2, 3, 4, 5):
        assert not below.mean[0, offset].any()


def test_pairs_are_ordered_and_drawn():
    model, (tokens, _) = known_induction(), sequences(16)
    below, above = query_key(model, attention_layers(model), [tokens], offsets=range(4))

    largest = [below.rms[0, :, m, n].max().item() for m, n in below.strongest(0, 10)]
    assert largest == sorted(largest, reverse=True)
    assert len(below.strongest(0, 1000)) == len(below.queries) * len(below.keys)
    rows = {"a $head": torch.stack([above.mean[0, :, m, n] for m, n in above.strongest(0, 3)])}
    figure = query_key_maps(rows, {"a $head": ["$1", "2", "3"]}, range(4))
    figure.canvas.draw()
    assert torch.allclose(torch.tensor(figure.axes[0].images[0].get_array()), rows["a $head"])
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"\$1"
    with pytest.raises(ValueError, match="must label every row"):
        query_key_maps(rows, {"a $head": ["1"]}, range(4))


def test_an_offset_that_no_example_has_is_nan():
    model, (tokens, _) = known_induction(), sequences(4)
    (found, _) = query_key(model, attention_layers(model), [tokens], offsets=(9, 10))
    assert found.pairs.tolist() == [4, 0]
    assert found.mean[:, 1].isnan().all()
    assert not found.mean[:, 0].isnan().any()


def test_too_many_pairs_are_refused(monkeypatch):
    model, (tokens, _) = known_induction(), sequences(4)
    layers = attention_layers(model)[:1]
    counts = [model.components[site].n_components for site in (layers[0].query, layers[0].key)]
    monkeypatch.setattr(sys.modules["spd_lightning.analysis.query_key"], "MOST", 3 * counts[0] * counts[1])
    assert query_key(model, layers, [tokens], offsets=range(3))
    with pytest.raises(UsageError, match=f"{counts[0]} by {counts[1]} components of 'layers.0' at 4 offsets are more"):
        query_key(model, layers, [tokens], offsets=range(4))


def test_what_is_not_served_is_refused():
    model, (tokens, _) = known_induction(), sequences(4)
    layers = attention_layers(model)
    with pytest.raises(UsageError, match=r"there is no head 1 in 'layers.0'; it has 0 to 0"):
        pair_scores(model, layers[0], tokens, 1, 0, 0)
    with pytest.raises(UsageError, match="holds no batches"):
        query_key(model, layers, [])
    with pytest.raises(UsageError, match=r"offsets: each must be a whole number, got 0.5"):
        query_key(model, layers, [tokens], offsets=[0.5])
    with pytest.raises(UsageError, match=r"threshold must lie in \[0, 1\]"):
        query_key(model, layers, [tokens], threshold=2)
    with pytest.raises(UsageError, match="no attention layer has sites for both queries and keys"):
        attention_layers(DecomposedModel(model.target, {"layers.*.q": 3, "layers.*.v": 3}))
    with pytest.raises(UsageError, match="how a Attention makes scores of queries and keys is not known here"):
        attention_layers(decomposed("token transformer"))
    older = AttributedModel(model.target, ["layers.0.q", "layers.0.k"], n_components=3)
    with pytest.raises(UsageError, match="not those of the older method"):
        attention_layers(older)


def test_rotary_positions_that_depend_on_the_length_are_refused():
    network = built("llama")
    network.model.rotary_emb.rope_type = "dynamic"
    with pytest.raises(UsageError, match="rotary positions of kind dynamic; it reads default, linear, llama3"):
        attention_layers(DecomposedModel(network, {"*.[qk]_proj": 2}, importance=IMPORTANCE))
