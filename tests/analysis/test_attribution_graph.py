"""Attributions against products written out, gradients taken one by one, and a transformer made by hand."""

import itertools

import pytest
import torch
from torch import nn

from spd_lightning import UsageError
from spd_lightning.analysis import attribution_graph, beginnings, share_kept, summed_graph
from spd_lightning.analysis.attribution_graph import COMPONENT, OUTPUT
from spd_lightning.analysis.examples import examples_of
from spd_lightning.model.assembly import assembled
from spd_lightning.targets import HandMadeInduction
from tests.analysis.graphs import Looped, edges_of, given, key_of, node_of, of_kind
from tests.model.attributed import toy
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example

THRESHOLD = 0.3


class Straight(nn.Module):
    """Linear throughout: a skip, a layer that is called twice, and a bias."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3, bias=False)

    def forward(self, x):
        h = self.a(x)
        h = h + self.b(h)
        h = h + self.b(h)
        return self.c(h) + x[..., :3]


class Rectified(nn.Module):
    """Two layers with a ReLU between, and a residual."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head((x + self.down(self.up(x).relu())).relu())


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().double()


def _numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def test_two_layers_are_products_written_out():
    target = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False)).double()
    model = given(target, {"0": 2, "1": 1}, {"0": [1.0, 0.5], "1": [1.0]})
    with torch.no_grad():
        target[0].weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        target[0].bias.copy_(torch.tensor([0.25, -0.5]))
        target[1].weight.copy_(torch.tensor([[2.0, -1.0]]))
        model.components["0"].V.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model.components["0"].U.copy_(torch.tensor([[1.0, 0.0], [2.0, 3.0]]))
        model.components["1"].V.copy_(torch.tensor([[2.0], [-1.0]]))
        model.components["1"].U.copy_(torch.tensor([[1.0]]))

    graph = attribution_graph(model, torch.tensor([[3.0, 5.0]], dtype=torch.float64))

    # what "0" reads is (3, 5), what it puts out (13.25, 14.5): 0:0 writes (3, 0), 0:1 half of 5 (2, 3) = (5, 7.5)
    assert edges_of(graph) == {
        ("input:0", "0:0"): 3.0,
        ("input:1", "0:1"): 5.0,
        ("0:0", "1:0"): 2 * 3.0,
        ("0:1", "1:0"): 0.5 * 5 * (2 * 2 - 3),
        ("0 (bias)", "1:0"): 2 * 0.25 + 0.5,
        ("0 (rest)", "1:0"): 2 * 5.0 - 7.5,
        ("1:0", "output:0"): 2 * 13.25 - 14.5,
    }
    assert float(graph.value[node_of(graph, "1:0")]) == 12.0
    assert float(graph.importance[node_of(graph, "0:1")]) == 0.5
    assert graph.total[node_of(graph, "1:0")] == 6 + 2.5 + 1 + 2.5
    assert share_kept(graph) == pytest.approx(1)


def test_everything_that_acts_on_a_node_of_a_linear_network_adds_up_to_it():
    importances = {"a": torch.linspace(0, 1, 6), "b@0": torch.linspace(1, 0, 4), "b@1": [1.0, 0, 0.7, 0.2], "c": 1}
    model = given(_seeded(Straight), {"a": 6, "b": 4, "c": 3}, importances)
    graph = attribution_graph(model, _numbers(1, 4), top=3, threshold=0.1)

    nodes = of_kind(graph, COMPONENT, OUTPUT)
    places = [key_of(graph, node)[0] for node in nodes]
    assert [places.count(name) for name in ("a", "b@0", "b@1", "c", "output")] == [5, 3, 3, 3, 3]
    torch.testing.assert_close(graph.entering[nodes], graph.value[nodes], rtol=0, atol=1e-10)
    by_edges = torch.zeros(graph.n_nodes, dtype=torch.float64).index_add(0, graph.target, graph.signed)
    torch.testing.assert_close(by_edges, graph.entering, rtol=0, atol=1e-10)


def _looped(model, batch, **options):
    graph, loop = attribution_graph(model, batch, threshold=THRESHOLD, **options), Looped(model, batch)
    found = edges_of(graph)
    components = of_kind(graph, COMPONENT)
    assert len(components) >= 2
    compared = 0
    for source, target in itertools.product(components, of_kind(graph, COMPONENT, OUTPUT)):
        expected = loop.attribution(key_of(graph, source), key_of(graph, target))
        edge = found.get((graph.name_of(source), graph.name_of(target)), 0.0)
        assert edge == pytest.approx(expected, abs=1e-6), (graph.name_of(source), graph.name_of(target))
        compared += expected != 0
    assert compared == sum(int(graph.kind[node]) == COMPONENT for node in graph.source.tolist())
    return graph


class WrittenOut(nn.Module):
    """An RMS norm as models of `transformers` write it."""

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    "norm", [lambda: nn.LayerNorm(5), lambda: nn.RMSNorm(5), WrittenOut], ids=["layer", "rms", "own"]
)
def test_what_acts_through_a_norm_adds_up_if_its_scale_is_held(norm):
    target = _seeded(lambda: nn.Sequential(nn.Linear(4, 5), norm(), nn.Linear(5, 3, bias=False)))
    for parameter in target[1].parameters():
        nn.init.uniform_(parameter, 0.5, 2.0)
    model, x = given(target, {"0": 4}, {"0": [1.0, 0.7, 1.0, 0.2]}), _numbers(1, 4)
    held, free = (attribution_graph(model, x, hold_norms=hold) for hold in (True, False))
    (node,), (same,) = of_kind(held, OUTPUT), of_kind(free, OUTPUT)
    shift = getattr(target[1], "bias", None)
    constant = 0.0 if shift is None else float(target[2].weight[int(held.index[node])] @ shift)

    assert float(held.value[node]) == float(free.value[same]) == float(target(x).max())
    assert float(held.entering[node]) == pytest.approx(float(target(x).max()) - constant, rel=1e-9)
    assert abs(float(free.entering[same])) < 1e-4 * abs(float(held.entering[node]))


def test_a_network_with_relus_is_that_of_gradients_one_by_one():
    model = given(
        _seeded(Rectified), {"up": 5, "down": 4, "head": 3}, {"up": torch.linspace(0.2, 1, 5), "down": 0.9, "head": 1}
    )
    graph = _looped(model, _numbers(1, 4), top=3)
    assert len(of_kind(graph, OUTPUT)) == 3


@pytest.mark.parametrize("name", ["shared layer", "tied embedding", "overwritten input", "pooled head"])
def test_networks_of_many_shapes_are_those_of_gradients_one_by_one(name):
    model = randomised(decomposed(name)).double()
    graph = _looped(model, next(examples_of([example(name, double=True)])))
    places = {key_of(graph, node)[0] for node in of_kind(graph, COMPONENT)}
    assert {"shared layer": {"f@0", "f@1", "f@2"}, "tied embedding": {"embed", "unembed"}}.get(name, set()) <= places


@pytest.mark.parametrize("name", ZOO)
def test_what_acts_on_an_output_is_how_it_moves_if_all_grows(name):
    """All that sites, embeddings and inputs put out grows by the same share: the sum of attributions, in one number."""
    model = randomised(decomposed(name))
    batch = next(examples_of([example(name)]))
    graph = attribution_graph(model, batch, threshold=THRESHOLD, hold_norms=False)
    clean, growth = model.clean(batch), torch.zeros((), requires_grad=True)

    def grown(path, index, site_input, original):
        own = original(site_input.detach().clone()).detach()
        sites = model.wrapping.modules[path]
        parts = {part: site.own_rows(site.taken(own), -1) * (1 + growth) for part, site in sites.items()}
        return assembled(sites, parts, lambda: original(site_input))

    def enter(arguments):
        def scaled(value):
            floating = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value * (1 + growth) if floating else value

        return model.target(
            *map(scaled, arguments.args), **{key: scaled(value) for key, value in arguments.kwargs.items()}
        )

    embeddings = [
        module
        for path, module in model.target.named_modules()
        if isinstance(module, nn.Embedding) and path not in model.wrapping.modules
    ]
    hooks = [module.register_forward_hook(lambda m, a, output: output * (1 + growth)) for module in embeddings]
    output = model.wrapping.run(batch, grown, enter=enter).output
    for hook in hooks:
        hook.remove()
    (node,) = of_kind(graph, OUTPUT)
    _, entry, position = key_of(graph, node)
    number = output.reshape(-1, output.shape[-1])[max(position, 0), entry]
    (expected,) = torch.autograd.grad(number, growth)

    tolerance = 0.1 if output.dtype == torch.bfloat16 else 1e-3
    assert float(graph.entering[node]) == pytest.approx(float(expected), rel=tolerance, abs=tolerance)
    counted = clean.output.reshape(-1, output.shape[-1])[max(position, 0)]
    assert float(graph.value[node]) == pytest.approx(float(counted.max()), rel=1e-2)


def _by_hand():
    target = HandMadeInduction(vocabulary=5, length=7).double()
    known = {name: found.terms for name, found in target.known_mechanisms().items()}
    row = 3
    importances = {name: terms.needed[row : row + 1].double() for name, terms in known.items()}
    model = given(target, {name: len(terms.read) for name, terms in known.items()}, importances)
    with torch.no_grad():
        for name, terms in known.items():
            model.components[name].V.copy_(terms.read.T)
            model.components[name].U.copy_(terms.write)
    return model, target.probes()[row : row + 1]


def test_the_head_of_previous_tokens_acts_on_the_keys_of_the_induction_head():
    model, tokens = _by_hand()
    graph = attribution_graph(model, tokens)
    trigger, first = int(tokens[0, -1]), tokens[0, :-1].tolist().index(int(tokens[0, -1]))
    after, last = int(tokens[0, first + 1]), tokens.shape[1] - 1

    edges = [
        (float(value), key_of(graph, source), key_of(graph, target))
        for source, target, value in zip(
            graph.source.tolist(), graph.target.tolist(), graph.absolute.tolist(), strict=True
        )
        if COMPONENT == int(graph.kind[source]) == int(graph.kind[target])
    ]
    across = [edge for edge in edges if edge[1][0].startswith("layers.0") and edge[2][0].startswith("layers.1")]
    key_edge = ("layers.0.o", trigger, first + 1), ("layers.1.k", trigger, first + 1)
    assert max(across)[1:] == key_edge
    into_keys = [edge for edge in edges if edge[2][0] == "layers.1.k"]
    assert max(into_keys)[1:] == key_edge
    values = max(edge for edge in edges if edge[2][0] == "layers.1.o")
    assert values[1:] == (("layers.1.v", after, first + 1), ("layers.1.o", after, last))
    (output,) = of_kind(graph, OUTPUT)
    assert key_of(graph, output) == ("output", after, -1)
    assert all(
        target[2] >= source[2] for _, source, target in edges if target[0][-1] in "kv"
    )  # nothing acts on what stands before it


def test_a_sum_over_data_is_the_sum_of_its_examples():
    model = randomised(decomposed("token transformer"))
    batches = [example("token transformer", 0), example("token transformer", 1)]
    total = summed_graph(model, batches, threshold=THRESHOLD)
    signed, absolute, importance, squares = {}, {}, {}, {}
    for one in examples_of(batches):
        graph = attribution_graph(model, one, threshold=THRESHOLD)
        for source, target, value in zip(
            graph.source.tolist(), graph.target.tolist(), graph.signed.tolist(), strict=True
        ):
            pair = tuple((*key_of(graph, node)[:2], int(graph.kind[node])) for node in (source, target))
            signed[pair] = signed.get(pair, 0) + value
            absolute[pair] = absolute.get(pair, 0) + abs(value)
        clean = model.clean(one)
        for call, found in model.importance(clean).items():
            inner = model.components[call].inner(clean.site_inputs[call])
            for component in range(inner.shape[-1]):
                live = found.lower[..., component] > THRESHOLD
                importance.setdefault((call, component), []).extend(found.lower[..., component][live].tolist())
                squares.setdefault((call, component), []).extend(inner[..., component][live].square().tolist())

    def key(node):
        return (*key_of(total, node)[:2], int(total.kind[node]))

    assert total.examples == 8
    pairs = [
        (key(source), key(target)) for source, target in zip(total.source.tolist(), total.target.tolist(), strict=True)
    ]
    assert sorted(pairs) == sorted(signed)
    assert total.signed.tolist() == pytest.approx([signed[pair] for pair in pairs], abs=1e-5)
    assert total.absolute.tolist() == pytest.approx([absolute[pair] for pair in pairs], abs=1e-5)
    for pair, value in zip(pairs, total.relative.tolist(), strict=True):
        if pair[0][2] == COMPONENT == pair[1][2]:
            (source, target) = (end[:2] for end in pair)
            rms = (sum(squares[target]) / len(squares[target])) ** 0.5
            assert value == pytest.approx(signed[pair] / (sum(importance[source]) * rms), rel=1e-3, abs=1e-5)


def test_of_too_many_edges_the_weakest_go_and_still_count():
    model, batch = randomised(decomposed("shared layer")), next(examples_of([example("shared layer")]))
    whole = attribution_graph(model, batch, threshold=THRESHOLD)
    few = attribution_graph(model, batch, threshold=THRESHOLD, most=20)
    strongest = whole.shares.topk(20).indices.sort().values

    assert few.n_edges == 20
    assert list(edges_of(few)) == [
        (whole.name_of(int(whole.source[edge])), whole.name_of(int(whole.target[edge]))) for edge in strongest
    ]
    target = next(node for node in few.target.tolist() if few.total[node] > 2 * few.absolute[few.target == node].sum())
    node, other = node_of(whole, few.name_of(target)), target
    assert (float(few.total[other]), float(few.entering[other])) == (
        pytest.approx(float(whole.total[node])),
        pytest.approx(float(whole.entering[node])),
    )
    assert share_kept(few) < share_kept(whole) == pytest.approx(1)


def test_padding_is_no_node():
    model = randomised(decomposed("padded dictionary"))
    batch = list(examples_of([example("padded dictionary")]))[1]
    counted = int(batch["attention_mask"].sum())
    graph = attribution_graph(model, batch, threshold=THRESHOLD)
    assert counted < batch["input_ids"].shape[1]
    assert int(graph.position.max()) == counted - 1 == int(graph.position[of_kind(graph, OUTPUT)])


def test_chosen_outputs_and_positions_are_nodes():
    model, batch = randomised(decomposed("tied embedding")), next(examples_of([example("tied embedding")]))
    graph = attribution_graph(model, batch, outputs=[3, 7], positions=[0, -2], threshold=THRESHOLD)
    found = {key_of(graph, node) for node in of_kind(graph, OUTPUT)}
    assert found == {("output", entry, position) for entry in (3, 7) for position in (0, 3)}
    assert beginnings(graph)["component"] > 0  # those of the embedding


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": [11]}, "graph: there is no output 11; the network has 11, from 0 to 10"),
        ({"outputs": [-1]}, "there is no output -1"),
        ({"outputs": []}, "graph: outputs must name at least one"),
        ({"outputs": [1, 1]}, "graph: outputs must differ"),
        ({"outputs": ["a"]}, "graph: outputs: each must be a whole number, got 'a'"),
        ({"positions": [5]}, "graph: there is no position 5; the output has 5"),
        ({"positions": [-6]}, "there is no position -6"),
        ({"top": 0}, "graph: top must be at least 1"),
        ({"threshold": 2}, "graph: threshold must lie in [0, 1]"),
        ({"most": 0}, "graph: most must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    model, batch = randomised(decomposed("tied embedding")), next(examples_of([example("tied embedding")]))
    with pytest.raises(UsageError) as refused:
        attribution_graph(model, batch, **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_inputs_are_refused():
    model = randomised(decomposed("tied embedding"))
    with pytest.raises(UsageError, match="takes one example, with a first dimension of 1, got 4"):
        attribution_graph(model, example("tied embedding"))
    with pytest.raises(UsageError, match="the data holds no examples"):
        summed_graph(model, [])
    with pytest.raises(UsageError, match="examples must be at least 1"):
        summed_graph(model, [], examples=0)
    with pytest.raises(UsageError, match="the older method has none of"):
        attribution_graph(toy(), torch.zeros(1, 3))


def test_numbers_that_are_not_finite_are_refused():
    model, batch = randomised(decomposed("shared layer")), next(examples_of([example("shared layer")]))
    with torch.no_grad():
        model.target.head.weight[0, 0] = torch.nan
    with pytest.raises(UsageError, match="no finite number"):
        attribution_graph(model, batch, outputs=[0], threshold=THRESHOLD)


def test_the_model_is_as_before():
    model, batch = randomised(decomposed("gpt2")), next(examples_of([example("gpt2")]))
    before = model.clean(batch).output
    attribution_graph(model, batch, threshold=THRESHOLD)
    assert torch.equal(model.clean(batch).output, before)
    assert all(not module._forward_hooks for module in model.target.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
