"""Which sites stand at the ends of networks, and what their vectors do there: against changes that are made by hand."""

import pytest
import torch

from spd_lightning import DecomposedModel, ResidualMLP, ToyModelOfSuperposition
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.ends import ends, strongest
from spd_lightning.analysis.firings import Firings
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import example

GPT2 = "network.transformer.h."
ENDS = {
    "in-place residual": ({"a"}, {"a", "b", "c"}),
    "in-place relu": ({"body.0"}, {"body.2"}),
    "pooled head": ({"up"}, {"down", "head"}),
    "token transformer": ({"embed"}, {"embed", "attention.o", "down", "head"}),
    "padded dictionary": ({"embed"}, {"head"}),
    "gpt2": (set(), {f"{GPT2}{layer}.{part}.c_proj" for layer in (0, 1) for part in ("attn", "mlp")}),
    "llama": (
        set(),
        {f"network.model.layers.{layer}.{part}" for layer in (0, 1) for part in ("self_attn.o_proj", "mlp.down_proj")},
    ),
    "tied embedding": ({"embed"}, {"embed", "unembed"}),
    "cnn": (set(), {"head"}),
    "two inputs": ({"left", "right"}, {"head"}),
}


@pytest.mark.parametrize("name", ENDS)
def test_sites_at_the_ends_are_known(name):
    found = ends(decomposed(name), example(name))
    assert (set(found.read), set(found.written)) == ENDS[name]


def test_every_input_keeps_its_own_shape():
    assert ends(decomposed("two inputs"), example("two inputs")).inputs == {"left": (8,), "right": (3,)}


def _change(model, batch, site, component):
    """What the output changes by if a site writes its component once more, and all other sites what they wrote."""
    modules = {name: parts.site.module for name, parts in model.components.items()}
    wrote = {}

    def run(change):
        def handle(path, index, given, original):
            if not change:
                wrote[path] = original(given)
            return wrote[path] + 0.01 * model.components[site].U[component] if change and path == site else wrote[path]

        return model.wrapping.run(batch, handle, (), list(modules)).output

    before = run(False)
    return (run(True) - before) / 0.01


@pytest.mark.parametrize("site", ["layers.0.mlp_out", "layers.1.mlp_out"])
@torch.no_grad()
def test_what_is_written_to_a_stream_reaches_the_output_so(site):
    model = DecomposedModel(ResidualMLP(6, n_layers=2, d_mlp=4, d_embed=9), {"*.mlp_*": 5})
    found = ends(model, torch.rand(3, 6))
    changed = _change(model, torch.rand(3, 6), site, 2)
    assert changed.abs().max() > 0.1
    expected = (found.written[site] @ model.components[site].U[2]).expand(3, 6)
    torch.testing.assert_close(changed, expected, atol=1e-3, rtol=1e-3)
    assert set(found.written) == {"layers.0.mlp_out", "layers.1.mlp_out"}


@torch.no_grad()
def test_features_of_an_embedding_are_what_its_readers_read():
    target = ResidualMLP(6, n_layers=1, d_mlp=4, d_embed=9)
    found = ends(DecomposedModel(target, {"layers.0.mlp_in": 5}), torch.rand(3, 6))
    x, read = torch.rand(3, 6), torch.rand(9)
    torch.testing.assert_close((x @ target.embedding) @ read, x @ (found.read["layers.0.mlp_in"] @ read))
    assert found.inputs == {"layers.0.mlp_in": (6,)}


def test_the_gain_of_the_last_norm_is_taken_in_and_no_other():
    model = decomposed("gpt2")
    network = model.target.network
    with torch.no_grad():
        for number, block in enumerate(network.transformer.h):
            block.ln_1.weight.fill_(7.0 + number)
        network.transformer.ln_f.weight.copy_(torch.linspace(0.5, 2, 8))
    written = ends(model, example("gpt2")).written
    for matrix in written.values():
        torch.testing.assert_close(matrix, network.lm_head.weight * torch.linspace(0.5, 2, 8))


@torch.no_grad()
def test_the_target_is_left_as_it_was():
    model, batch = decomposed("llama"), example("llama")
    before = model.clean(batch).output
    ends(model, batch)
    assert torch.equal(model.clean(batch).output, before)
    assert not any(module._forward_hooks for module in model.target.modules())


def test_the_strongest_entries_are_those_of_a_sort():
    generator = torch.Generator().manual_seed(0)
    vectors, matrix = torch.randn(600, 4, generator=generator), torch.randn(9, 4, generator=generator)
    values, numbers = strongest(vectors, matrix, 3)
    for row, vector in enumerate(vectors):
        there = (matrix @ vector).tolist()
        order = sorted(range(9), key=lambda index: -abs(there[index]))[:3]
        assert numbers[row].tolist() == order
        assert values[row].tolist() == pytest.approx([there[index] for index in order], rel=1e-4)
    assert strongest(vectors, None, 9)[1].shape == (600, 4)


class _Letters:
    size = 11

    def decode(self, tokens):
        return "".join("abcdefghijk"[token] for token in tokens)


@torch.no_grad()
def test_rows_name_inputs_and_outputs():
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), {"linear*": 4}, ties={"linear2": "linear1"})
    firings = Firings(dict(model.sites), 3, torch.tensor([1, 6]), torch.tensor([0, 2]))
    rows = EndRows(model, ends(model, torch.rand(3, 5)), firings)
    read, write = model.components["linear1"].V[:, 1], model.components["linear1"].U[1]
    reads = {entry["index"]: entry["weight"] for entry in rows.of("linear1", 1)["reads"]}
    assert [reads[index] for index in range(5)] == pytest.approx((read / read.norm()).tolist(), rel=1e-3)
    through = model.target.linear2.weight @ write * read.norm()
    writes = {entry["name"]: entry["weight"] for entry in rows.of("linear1", 1)["writes"]}
    assert writes == {f"output {index}": pytest.approx(through[index].item(), rel=1e-3) for index in range(5)}
    assert rows.of("linear1", 0) == {"reads": [], "writes": []}  # it never fires
    assert set(rows.of("linear2", 2)) == {"writes"}


def test_tokens_are_named_where_inputs_or_outputs_are_tokens():
    model = randomised(decomposed("tied embedding"))
    firings = Firings(dict(model.sites), 1, torch.arange(18), torch.zeros(18))
    rows = EndRows(model, ends(model, example("tied embedding")), firings, _Letters())
    for side in ("reads", "writes"):
        assert all("abcdefghijk"[entry["index"]] == entry["name"] for entry in rows.of("embed", 3)[side])
    tagger = randomised(decomposed("padded dictionary"))  # reads tokens, answers with one of six
    firings = Firings(dict(tagger.sites), 1, torch.arange(15), torch.zeros(15))
    rows = EndRows(tagger, ends(tagger, example("padded dictionary")), firings, _Letters())
    assert rows.of("embed", 0)["reads"][0]["name"] in "abcdefghijk"
    assert rows.of("head", 0)["writes"][0]["name"].startswith("output ")


def test_places_of_images_are_named_by_row_and_column():
    target = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    model = DecomposedModel(target, {"1": 4})
    rows = EndRows(model, ends(model, torch.rand(2, 3, 4)), Firings({"1": 4}, 1, torch.arange(4), torch.zeros(4)))
    for entry in rows.of("1", 2)["reads"]:
        assert entry["name"] == f"pixel {entry['index'] // 4},{entry['index'] % 4}"
