"""The transformer that reads all sites at all positions."""

from functools import partial

import pytest
import torch
from torch import nn

from spd_lightning import DecomposedModel, UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.model import KeywordCall, SiteTransformer
from spd_lightning.model.importance import Features
from spd_lightning.model.importance.base import SiteShape
from spd_lightning.model.importance.transformer import rms_norm, rotated

SITES = {"token": SiteShape(3, 5), "other": SiteShape(4, 6), "pooled": SiteShape(2, 7)}
LEADING = {"token": (2, 4), "other": (2, 4), "pooled": (2,)}


def _function(sites=SITES, seed="function", **options):
    function = SiteTransformer(sites, **({"width": 16, "blocks": 2, "heads": 2} | options))
    function.reset(partial(keyed_generator, seed))
    return function.double()


def _inputs(leading=LEADING, sites=SITES):
    """Inner activations and features by call."""
    shapes = {call: (lead, sites[call.partition("@")[0]]) for call, lead in leading.items()}
    inner = {call: torch.randn(*lead, shape.n_components).double() for call, (lead, shape) in shapes.items()}
    features = {call: torch.randn(*lead, shape.d_features).double() for call, (lead, shape) in shapes.items()}
    return inner, features


def _logits(function, inner, features, counted=None):
    return function(inner, Features({call: partial(features.get, call) for call in features}, counted))


@pytest.mark.parametrize("causal", [False, True])
def test_logits_have_the_shapes_of_inner_activations(causal):
    inner, features = _inputs()
    logits = _logits(_function(causal=causal), inner, features)
    assert {call: z.shape for call, z in logits.items()} == {call: h.shape for call, h in inner.items()}
    assert list(logits) == list(inner)


@pytest.mark.parametrize("leading", [(3,), (3, 2), (2, 3, 2)])
def test_any_leading_dimensions(leading):
    sites = {"token": SITES["token"]}
    inner, features = _inputs({"token": leading}, sites)
    assert _logits(_function(sites), inner, features)["token"].shape == (*leading, 3)


def test_inner_activations_receive_no_gradient():
    inner, features = _inputs()
    inner["token"].requires_grad_()
    total = sum(z.sum() for z in _logits(_function(), inner, features).values())
    assert torch.autograd.grad(total, inner["token"], allow_unused=True) == (None,)


def test_every_site_reads_every_site_and_position():
    inner, features = _inputs()
    function = _function()
    before = _logits(function, inner, features)
    for call in features:
        changed = features | {call: features[call].clone()}
        changed[call][1, ..., 0].view(-1)[-1] += 1  # the last position of the second row
        after = _logits(function, inner, changed)
        for other in before:
            assert torch.equal(after[other][0], before[other][0])
            assert (after[other][1] != before[other][1]).all()


def test_a_pooled_sites_logits_are_read_from_the_mean_over_positions():
    """Restated: its projected features are added at every position, and its map follows the mean over the stream."""
    inner, features = _inputs()
    function = _function()
    own = {name: function.read[name](rms_norm(a)) for name, a in features.items()}
    stream = own["token"] + own["other"] + own["pooled"][:, None] + function.offset
    for layer in function.layers:
        stream = layer(stream, None)
    stream = rms_norm(stream)
    logits = _logits(function, inner, features)
    torch.testing.assert_close(logits["token"], function.write["token"](stream))
    torch.testing.assert_close(logits["pooled"], function.write["pooled"](stream.mean(1)))


def test_a_block_by_an_obvious_loop():
    sites = {"token": SITES["token"]}
    block, x = _function(sites, heads=2, width=8).layers[0], torch.randn(1, 3, 8).double()
    normed = rms_norm(x)[0]
    q, k, v = (block.qkv(normed)[:, part * 8 : (part + 1) * 8] for part in range(3))
    mixed = torch.zeros(3, 8).double()
    for head in (slice(0, 4), slice(4, 8)):
        turned = [[_turned(rows[n, head], n) for n in range(3)] for rows in (q, k)]
        for n in range(3):
            scores = torch.stack([(turned[0][n] * turned[1][m]).sum() / 2 for m in range(3)])
            mixed[n, head] = sum(p * v[m, head] for m, p in enumerate(scores.softmax(0)))
    stream = x[0] + mixed @ block.out.weight.T
    expected = stream + block.down(nn.functional.gelu(block.up(rms_norm(stream))))
    torch.testing.assert_close(block(x, None)[0], expected, rtol=1e-6, atol=1e-6)


def _turned(vector, position):
    """Coordinates ``(0, 2)`` and ``(1, 3)`` of four turned by ``position`` and ``position / 100``."""
    out = vector.clone()
    for pair, rate in enumerate((1.0, 0.01)):
        angle = torch.tensor(position * rate)
        a, b = vector[pair], vector[pair + 2]
        out[pair], out[pair + 2] = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    return out


def test_products_of_rotated_vectors_depend_on_the_distance_alone():
    x = torch.randn(1, 6).double().expand(5, 6)
    scores = rotated(x) @ rotated(x).T
    for shift in range(1, 5):
        diagonal = scores.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(scores.diagonal(0)[:1], scores.diagonal(1)[:1])


def test_permuting_positions_matters_and_permuting_rows_does_not():
    inner, features = _inputs()
    function = _function()
    before = _logits(function, inner, features)
    rows = _logits(function, inner, {call: a.flip(0) for call, a in features.items()})
    for call, logits in before.items():
        torch.testing.assert_close(rows[call].flip(0), logits)
    positions = _logits(function, inner, {call: a.flip(1) if a.dim() == 3 else a for call, a in features.items()})
    assert not torch.allclose(positions["token"].flip(1), before["token"], atol=1e-3)


def test_several_calls_of_a_site_differ_by_what_each_reads():
    leading = {"token@0": (2, 4), "token@1": (2, 4), "other": (2, 4)}
    inner, features = _inputs(leading)
    function = _function({name: SITES[name] for name in ("token", "other")})
    before = _logits(function, inner, features)
    assert list(before) == list(leading)
    assert (before["token@0"] != before["token@1"]).all()
    same = _logits(function, inner, features | {"token@1": features["token@0"]})
    torch.testing.assert_close(same["token@0"], same["token@1"])
    swapped = features | {"token@0": features["token@1"], "token@1": features["token@0"]}
    after = _logits(function, inner, swapped)
    torch.testing.assert_close(after["token@0"], before["token@1"])
    torch.testing.assert_close(after["other"], before["other"])


@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_change_what_counted_positions_get(causal):
    leading = {"token": (3, 5), "other": (3, 5)}
    inner, features = _inputs(leading)
    lengths = torch.tensor([5, 2, 3])
    counted = torch.arange(5) < lengths[:, None]
    function = _function({name: SITES[name] for name in leading}, causal=causal)
    before = _logits(function, inner, features, counted)
    noisy = {call: torch.where(counted[..., None], a, 10 * torch.randn_like(a)) for call, a in features.items()}
    after = _logits(function, inner, noisy, counted)
    for call in leading:
        torch.testing.assert_close(after[call][counted], before[call][counted], rtol=1e-6, atol=1e-6)
        assert torch.isfinite(after[call]).all()
    for row, length in enumerate(lengths.tolist()):  # nor does leaving it out
        alone = {call: a[row : row + 1, :length] for call, a in features.items()}
        short = _logits(function, {call: h[row : row + 1, :length] for call, h in inner.items()}, alone)
        for call in leading:
            torch.testing.assert_close(short[call][0], before[call][row, :length], rtol=1e-6, atol=1e-6)
    if not causal:  # without being told what counts, everything does
        assert not torch.allclose(_logits(function, inner, noisy)["token"][counted], before["token"][counted])


def test_padding_on_the_left_does_not_either():
    inner, features = _inputs({"token": (2, 5)})
    counted = torch.tensor([[False, False, True, True, True], [True] * 5])
    function = _function({"token": SITES["token"]}, causal=True)
    noisy = {"token": torch.where(counted[..., None], features["token"], torch.tensor(9.0).double())}
    one, other = (_logits(function, inner, some, counted)["token"] for some in (features, noisy))
    torch.testing.assert_close(one[counted], other[counted], rtol=1e-6, atol=1e-6)
    assert torch.isfinite(torch.cat([one, other])).all()


def test_a_pooled_site_does_not_see_padding():
    inner, features = _inputs()
    counted = torch.tensor([[True, True, False, False], [True] * 4])
    function = _function()
    noisy = {
        call: torch.where(counted[..., None], a, 10 * torch.randn_like(a)) if a.dim() == 3 else a
        for call, a in features.items()
    }
    one, other = (_logits(function, inner, some, counted) for some in (features, noisy))
    torch.testing.assert_close(one["pooled"], other["pooled"], rtol=1e-6, atol=1e-6)
    short = {call: a[:1, :2] if a.dim() == 3 else a[:1] for call, a in features.items()}
    alone = _logits(function, {call: h[:1, :2] if h.dim() == 3 else h[:1] for call, h in inner.items()}, short)
    torch.testing.assert_close(one["pooled"][0], alone["pooled"][0], rtol=1e-6, atol=1e-6)


def test_a_row_of_padding_alone_gets_finite_logits_and_gradients():
    inner, features = _inputs()
    counted = torch.tensor([[False] * 4, [True] * 4])
    function = _function()
    logits = _logits(function, inner, features, counted)
    assert all(torch.isfinite(z).all() for z in logits.values())
    gradients = torch.autograd.grad(sum(z.sum() for z in logits.values()), list(function.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_causal_logits_do_not_see_later_positions():
    leading = {"token": (2, 4), "other": (2, 4)}
    inner, features = _inputs(leading)
    sites = {name: SITES[name] for name in leading}
    for position in range(1, 4):
        changed = {call: a.clone() for call, a in features.items()}
        for a in changed.values():
            a[:, position:] = torch.randn_like(a[:, position:])
        for causal in (True, False):
            function = _function(sites, causal=causal)
            before, after = (_logits(function, inner, some) for some in (features, changed))
            for call in leading:
                earlier = before[call][:, :position], after[call][:, :position]
                assert torch.allclose(*earlier, rtol=1e-9, atol=1e-9) == causal
                assert not torch.allclose(before[call][:, position:], after[call][:, position:])


def test_the_start_is_as_wide_as_inputs_ask_for():
    sites = {"a": SiteShape(300, 100), "b": SiteShape(200, 300)}
    function = SiteTransformer(sites, width=128, blocks=1, heads=4)
    function.reset(partial(keyed_generator, 0))
    block = function.layers[0]
    fans = {
        function.read["a"]: 400,
        function.read["b"]: 400,
        function.write["a"]: 128,
        block.qkv: 128,
        block.out: 128,
        block.up: 64,  # a gain of sqrt(2)
        block.down: 512,
    }
    for layer, fan in fans.items():
        assert layer.weight.std().item() == pytest.approx(fan**-0.5, rel=0.05)
        assert layer.bias is None or not layer.bias.any()
    assert not function.offset.any()
    again = SiteTransformer(sites, width=128, blocks=1, heads=4)
    again.reset(partial(keyed_generator, 0))
    assert all(torch.equal(*pair) for pair in zip(function.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 12, "heads": 4}, r"SiteTransformer: width must be a multiple of twice the heads \(4\), got 12"),
        ({"width": 0}, "SiteTransformer: width must be at least 1, got 0"),
        ({"blocks": 0}, "SiteTransformer: blocks must be at least 1, got 0"),
        ({"heads": 1.5}, r"SiteTransformer: heads must be a whole number, got 1\.5"),
        ({"causal": 1}, "SiteTransformer: causal must be true or false, got 1"),
    ],
)
def test_sizes_that_do_not_fit(options, said):
    with pytest.raises(UsageError, match=said):
        SiteTransformer(SITES, **options)


def test_positions_that_are_no_part_of_the_others_are_refused():
    inner, features = _inputs({"token": (2, 4), "other": (2, 3)})
    said = r"SiteTransformer: 'other' has positions \[2, 3\], which are no part of \[2, 4\]; use PerSite"
    with pytest.raises(UsageError, match=said):
        _logits(_function(), inner, features)


class Tagger(nn.Module):
    """Token layers, of which one is called twice, and a pooled head."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.head = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, ids, mask):
        h = self.layer(self.layer(self.embed(ids)).tanh()) * mask[..., None]
        return self.head(h.sum(1) / mask.sum(1, keepdim=True))


def test_it_serves_a_model_with_calls_pooling_and_padding():
    call = KeywordCall(["ids", "mask"], weights="mask")
    make = partial(SiteTransformer, width=16, blocks=1, heads=2)
    model = DecomposedModel(Tagger(), {"*": 4}, call=call, importance=make)
    ids, mask = torch.randint(7, (3, 5)), torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    importances = model.importance_of({"ids": ids, "mask": mask})
    shapes = {call: tuple(found.lower.shape) for call, found in importances.items()}
    assert shapes == {"embed": (3, 5, 4), "layer@0": (3, 5, 4), "layer@1": (3, 5, 4), "head": (3, 4)}
    other = model.importance_of({"ids": torch.where(mask > 0, ids, (ids + 1) % 7), "mask": mask})
    for call, found in importances.items():
        some = found.logits[mask > 0] if found.logits.dim() == 3 else found.logits
        same = other[call].logits[mask > 0] if found.logits.dim() == 3 else other[call].logits
        torch.testing.assert_close(some, same, rtol=1e-5, atol=1e-6)
