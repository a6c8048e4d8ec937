"""The fast form of a batch is the plain one, computed with less."""

import gc
import weakref
from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import spd_lightning.model.fast as fast_module
from spd_lightning import UsageError
from spd_lightning.functional.weights import EVEN, Weights
from spd_lightning.model import (
    DecomposedModel,
    FastForm,
    FastOptions,
    GateMLP,
    InnerMLP,
    PerSite,
    PlainForm,
    SharedMLP,
    SiteMask,
    SiteTransformer,
    UniformMask,
    VectorMLP,
)
from spd_lightning.targets import ResidualMLP, ToyModelOfSuperposition
from tests.comparison import assert_same_with_gradients

EXACT = FastOptions(nodes=0, compiled=False)


class Branches(nn.Module):
    """Two sites read the same input; modules are named in another order than they are called in."""

    def __init__(self):
        super().__init__()
        self.last, self.left, self.right, self.free = (nn.Linear(*sizes) for sizes in ((6, 3), (5, 4), (5, 4), (4, 2)))

    def forward(self, x):
        right = self.right(x).tanh()
        left = self.left(x)
        return self.last(torch.cat([left * right, self.free(left)], -1))


def _residual(layers, sites="layers.*.mlp_*"):
    names = sites if isinstance(sites, dict) else {sites: 4}
    return lambda **options: DecomposedModel(ResidualMLP(5, layers, d_mlp=3, d_embed=7), names, **options)


def _superposed(**fixed):
    return lambda **options: DecomposedModel(
        ToyModelOfSuperposition(5, 2, n_identity_layers=2), {"linear*": 4, "hidden_layers.*": 3}, **fixed, **options
    )


NETWORKS = {
    "identity layers": _superposed(),
    "tied, one update": _superposed(ties={"linear2": "linear1"}),
    "tied, two updates": _superposed(ties={"linear2": "linear1"}, tied_updates="twice"),
    "residual, 1 layer": _residual(1),
    "residual, 2 layers": _residual(2),
    "residual, 3 layers": _residual(3),
    "residual, no writer": _residual(2, "layers.*.mlp_in"),
    "residual, a layer short": _residual(2, {"layers.0.mlp_*": 4, "layers.1.mlp_in": 3}),
    "branches": lambda **options: DecomposedModel(Branches(), {"l*": 4, "right": 3}, **options),
}


@pytest.fixture(params=NETWORKS)
def model(request):
    return _double(NETWORKS[request.param]())


def _double(model):
    """In double precision, with all parameters random."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.7 * torch.randn(parameter.shape, dtype=torch.float64))
        for twin in model.twins:
            twin.mirror()
        for function in getattr(model.importance_function, "functions", {}).values():
            bias = list(function.parameters())[-1]
            bias.copy_(torch.linspace(-0.7, 1.7, len(bias)).reshape(bias.shape))
    return model


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _rand(*shape):
    return torch.rand(shape, dtype=torch.float64)


def _routed(leading):
    """Some examples, not all of them."""
    places = torch.arange(torch.Size(leading).numel())
    return (places[torch.randperm(len(places))] % 2 == 0).reshape(leading)


def _masks(model, leading, delta=False):
    return {
        name: SiteMask(1.2 * _rand(*leading, parts.n_components), _rand(*leading) if delta else None)
        for name, parts in model.components.items()
    }


def _assert_same_output(model, x, masks, routing=None):
    assert_same_with_gradients(
        FastForm(model, x, EXACT).masked(masks, routing).output,
        model.masked(x, masks, routing).output,
        _trained(model),
    )


def test_the_clean_pass_is_the_plain_one(model, x):
    fast, plain = FastForm(model, x, EXACT).clean, model.clean(x)
    torch.testing.assert_close(fast.output, plain.output, rtol=1e-12, atol=1e-12)
    assert not fast.output.requires_grad
    assert list(fast.site_inputs) == list(plain.site_inputs) == model.site_names
    assert len(fast.site_inputs) == len(plain.site_inputs)
    for name, site_input in plain.site_inputs.items():
        torch.testing.assert_close(fast.site_inputs[name], site_input, rtol=1e-12, atol=1e-12)
        assert not fast.site_inputs[name].requires_grad


FUNCTIONS = {
    "gates": partial(GateMLP, hidden=[3]),
    "even gates": partial(GateMLP, hidden=[3], even=True),
    "inner": partial(InnerMLP, hidden=[3]),
    "shared": partial(SharedMLP, hidden=[3]),
    "vector": partial(VectorMLP, hidden=[3]),
}
IMPORTANCES = {name: partial(PerSite, function=function) for name, function in FUNCTIONS.items()}
IMPORTANCES["transformer"] = partial(SiteTransformer, width=8, blocks=1, heads=2)


@pytest.mark.parametrize("importance", IMPORTANCES.values(), ids=IMPORTANCES)
@pytest.mark.parametrize("leak", ["one_sided", "linear"])
@pytest.mark.parametrize("network", NETWORKS)
def test_importances_are_the_plain_ones(network, x, importance, leak):
    model = _double(NETWORKS[network](importance=importance, leak=leak))
    fast, plain = FastForm(model, x, EXACT).importance, model.importance_of(x)
    assert list(fast) == list(plain)
    for field in ("logits", "lower", "upper"):
        one, other = (torch.cat([getattr(ci, field).flatten() for ci in found.values()]) for found in (fast, plain))
        if field == "logits":
            leaves = _trained(model)
            assert_same_with_gradients(one, other, leaves)
        else:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("routed", [False, True], ids=["everywhere", "routed"])
@pytest.mark.parametrize("delta", [False, True], ids=["no delta", "delta"])
def test_all_sites_masked(model, x, delta, routed):
    leading = x.shape[:-1]
    routing = {name: _routed(leading) for name in model.site_names} if routed else None
    _assert_same_output(model, x, _masks(model, leading, delta), routing)


@pytest.mark.parametrize("delta", [False, True], ids=["no delta", "delta"])
def test_one_site_masked(model, x, delta):
    for name, mask in _masks(model, x.shape[:-1], delta).items():
        routing = {name: _routed(x.shape[:-1])}
        _assert_same_output(model, x, {name: mask})
        _assert_same_output(model, x, {name: mask}, routing)


def test_some_sites_masked_some_of_them_routed(model, x):
    masks = _masks(model, x.shape[:-1], delta=True)
    names = model.site_names
    for dropped in names:
        if len(names) > 1:
            some = {name: masks[name] for name in reversed(names) if name != dropped}
            _assert_same_output(model, x, some, {next(iter(some)): _routed(x.shape[:-1])})


def test_one_mask_for_all_examples(model, x):
    _assert_same_output(model, x, _masks(model, ()))
    _assert_same_output(model, x, _masks(model, (1,) * (x.dim() - 1)))


@pytest.mark.parametrize("use_delta", [True, False], ids=["delta", "no delta"])
@pytest.mark.parametrize("importance", IMPORTANCES.values(), ids=IMPORTANCES)
def test_importances_as_masks_train_gates_alike(x, importance, use_delta):
    model = _double(_residual(2)(importance=importance))
    delta = _rand(*x.shape[:-1]) if use_delta else None
    fast = FastForm(model, x, EXACT)
    outputs = [
        form.masked({name: SiteMask(ci.lower, delta) for name, ci in form.importance.items()}).output
        for form in (fast, PlainForm(model, x))
    ]
    assert_same_with_gradients(*outputs, _trained(model))


@pytest.mark.parametrize("use_delta", [True, False], ids=["delta", "no delta"])
def test_noise_drawn_in_place_is_the_noise_written_out(model, x, use_delta):
    leading = x.shape[:-1]
    masks = {
        name: UniformMask(mask.components.clamp(max=1), mask.delta, seed, compiled=False)
        for seed, (name, mask) in enumerate(_masks(model, leading, use_delta).items())
    }
    _assert_same_output(model, x, masks)
    written_out = {name: SiteMask(mask.components, mask.delta) for name, mask in masks.items()}
    assert_same_with_gradients(
        FastForm(model, x, EXACT).masked(masks).output,
        model.masked(x, written_out).output,
        model.components.parameters(),
    )
    for name, mask in masks.items():
        assert ((mask.components >= mask.importance) & (mask.components <= 1)).all()
        assert not torch.equal(mask.components, mask._replace(seed=99).components), name


def test_compiled_noise_in_single_precision():
    model, x = _double(_residual(2)()).float(), torch.rand(40, 5)
    masks = {
        name: UniformMask(mask.components.float().clamp(max=1), mask.delta.float(), seed, compiled=True)
        for seed, (name, mask) in enumerate(_masks(model, (40,), delta=True).items())
    }
    fast = FastForm(model, x, FastOptions(nodes=0, compiled=True)).masked(masks).output
    assert_same_with_gradients(fast, model.masked(x, masks).output, model.components.parameters(), 1e-4)


def test_tables_serve_batches_that_are_large_enough(monkeypatch):
    model, used = _double(_residual(1)()).float(), []
    table = fast_module.tabulated_importance
    monkeypatch.setattr(fast_module, "tabulated_importance", lambda *given: used.append(given[2]) or table(*given))
    for rows in (33, 34):
        x = torch.rand(rows, 5)
        fast, plain = (FastForm(model, x, FastOptions(nodes=nodes, compiled=False)).importance for nodes in (17, 0))
        for name in model.site_names:
            torch.testing.assert_close(fast[name].logits, plain[name].logits, rtol=1e-2, atol=1e-2)
    assert used == [17, 17]  # both sites of the larger batch, which has two examples per node


def test_everything_on_is_the_target(model, x):
    ones = {
        name: SiteMask(torch.ones(*x.shape[:-1], parts.n_components), torch.ones(x.shape[:-1]))
        for name, parts in model.components.items()
    }
    fast = FastForm(model, x, EXACT)
    torch.testing.assert_close(fast.masked(ones).output, model.target(x), rtol=1e-9, atol=1e-9)
    nowhere = {name: torch.zeros(x.shape[:-1], dtype=torch.bool) for name in model.site_names}
    off = fast.masked(_masks(model, x.shape[:-1], delta=True), nowhere).output
    torch.testing.assert_close(off, model.target(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", ["identity layers", "residual, 2 layers"])
def test_no_masks_is_the_target(network):
    model, x = _double(NETWORKS[network]()), _rand(4, 5)
    torch.testing.assert_close(FastForm(model, x, EXACT).masked({}).output, model.target(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", ["identity layers", "residual, 2 layers"])
def test_a_pass_without_gradient_takes_none_from_the_next(network):
    model, x = _double(NETWORKS[network]()), _rand(4, 5)
    masks = _masks(model, (4,), delta=True)
    fast = FastForm(model, x, EXACT)
    with torch.no_grad():
        fast.masked(masks)
    assert_same_with_gradients(fast.masked(masks).output, model.masked(x, masks).output, model.components.parameters())


def test_layers_tied_to_one_and_the_same_get_a_gradient_each():
    writers = ("layers.0.mlp_out", "layers.1.mlp_out")
    ties = dict.fromkeys(writers, "layers.0.mlp_in")
    model = _double(_residual(3)(ties=ties, tied_updates="twice"))
    _assert_same_output(model, _rand(4, 5), _masks(model, (4,)))


class Calls(TorchDispatchMode):
    """Counts matrix products and keeps the shapes of all results."""

    def __init__(self):
        super().__init__()
        self.products, self.shapes = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm)
        if isinstance(result, torch.Tensor):
            self.shapes.add(tuple(result.shape))
        return result


def _calls(function):
    with Calls() as calls:
        function()
    return calls


CHAIN = 4  # layers


@pytest.fixture
def chain():
    return _double(DecomposedModel(nn.Sequential(*(nn.Linear(5, 5) for _ in range(CHAIN))), {"*": 3}))


@pytest.mark.parametrize("delta", [False, True], ids=["no delta", "delta"])
@pytest.mark.parametrize("index", range(CHAIN))
def test_what_the_clean_pass_knows_is_not_multiplied_again(chain, index, delta):
    x = _rand(8, 5)
    fast, mask = FastForm(chain, x, EXACT), _masks(chain, (8,), delta)[str(index)]
    assert fast.importance  # reads all inner activations
    # its own write matrix, then the target's weight of every layer after it
    assert _calls(lambda: fast.masked({str(index): mask})).products == 1 + (CHAIN - 1 - index)
    assert _calls(lambda: chain.masked(x, {str(index): mask})).products > CHAIN


@pytest.mark.parametrize(("delta", "products"), [(False, 2), (True, 3)])
def test_later_sites_need_no_difference_of_matrices(chain, delta, products):
    fast, masks = FastForm(chain, _rand(8, 5), EXACT), _masks(chain, (8,), delta)
    assert fast.importance  # reads all inner activations
    calls = _calls(lambda: fast.masked(masks))
    assert calls.products == 1 + products * (CHAIN - 1)
    assert all(shape != (5, 5) for shape in calls.shapes)


def test_a_replaced_layer_is_not_called_itself(chain, monkeypatch):
    used = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *given: used.append(given) or linear(*given))
    fast = FastForm(chain, _rand(8, 5), EXACT)
    assert fast.importance
    fast.masked(_masks(chain, (8,), delta=True))
    assert used == []
    chain.target(_rand(8, 5))
    assert len(used) == CHAIN


def test_a_residual_stream_is_never_written_out():
    model, x, stream = _double(_residual(3)()), _rand(11, 5), (11, 7)
    masks = _masks(model, (11,), delta=True)
    routing = {name: _routed((11,)) for name in masks}

    def step():
        fast = FastForm(model, x, FastOptions(nodes=5, compiled=False))
        assert fast.importance
        fast.masked(masks, routing).output.sum().backward()

    assert stream not in _calls(step).shapes
    assert stream in _calls(lambda: model.masked(x, masks)).shapes


def test_products_of_two_matrices_are_made_once_for_all_passes():
    model = _double(_residual(3)())
    fast, masks = FastForm(model, _rand(11, 5), EXACT), _masks(model, (11,))
    first, second = (_calls(lambda: fast.masked(masks)) for _ in range(2))
    # write vectors against what later layers and the output read: 3 + 2 + 1
    assert first.products - second.products >= 6


def _patched(model):
    return [name for name, module in model.target.named_modules() if "forward" in vars(module)]


@pytest.mark.parametrize("network", ["branches", "residual, 2 layers"])
def test_forwards_are_restored_even_when_the_target_raises(network, monkeypatch):
    model, x = _double(NETWORKS[network]()), _rand(4, 5)
    before = model.target(x)
    fast = FastForm(model, x, EXACT)
    masks = _masks(model, (4,), delta=True)
    fast.masked(masks)
    assert _patched(model) == []

    def broken(*given):
        raise RuntimeError("broken on purpose")

    for call in (lambda: fast.masked(masks), lambda: FastForm(model, x, EXACT)):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "tanh", broken)
            patch.setattr(torch.Tensor, "relu", broken)
            with pytest.raises(RuntimeError, match="broken on purpose"):
                call()
        assert _patched(model) == []
    assert torch.equal(model.target(x), before)


class _Wrong(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.first, self.second, self.kind = nn.Linear(3, 3), nn.Linear(3, 3), kind

    def forward(self, x):
        return self.first(x) if self.kind == "never" else (self.second(self.first(x)), x)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "never",
            "sites: the target's forward never calls 'second'; leave it out, or give the target a form that calls its "
            "modules (see docs/networks.md for fused ones)",
        ),
        ("tuple", "target: its output must be one tensor, got a tuple of 2; choose one with model.call's output"),
    ],
)
def test_targets_that_cannot_be_are_refused_as_plainly(kind, message):
    model = DecomposedModel(_Wrong(kind), {"*": 2})
    for look in (lambda: FastForm(model, torch.rand(4, 3), EXACT), lambda: model.clean(torch.rand(4, 3))):
        with pytest.raises(UsageError) as error:
            look()
        assert str(error.value) == message
    assert _patched(model) == []


class _Doubled(ResidualMLP):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_network_that_changes_the_forward_keeps_its_own():
    x = _rand(4, 5)
    model = _double(DecomposedModel(_Doubled(5, 2, 3, 7), {"layers.*.mlp_*": 4}))
    torch.testing.assert_close(FastForm(model, x, EXACT).clean.output, model.target(x))


@pytest.mark.parametrize("place", ["layers.0", "layers.0.mlp_out", "layers.1.mlp_in"])
def test_hooks_of_the_users_own_see_tensors(place):
    model, x = _double(_residual(2)()), _rand(4, 5)
    module, seen = model.target.get_submodule(place), []
    module.register_forward_hook(lambda module, args, output: 3 * output)
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    masks = _masks(model, (4,), delta=True)
    fast = FastForm(model, x, EXACT)
    torch.testing.assert_close(fast.clean.output, model.target(x))
    assert_same_with_gradients(fast.masked(masks).output, model.masked(x, masks).output, _trained(model))
    assert len(seen) == 4


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("hidden", [[3], [3, 2]])
def test_an_even_gate_is_read_from_a_table_with_the_gradients_of_the_plain_one(hidden, compiled):
    model = _residual(1)(importance=partial(PerSite, function=partial(GateMLP, hidden=hidden, even=True))).float()
    x = torch.rand(4096, model.target.n_features)
    name = model.site_names[0]
    fast = FastForm(model, x, FastOptions(257, compiled))
    assert fast.tabulated_gate(name) is not None
    plain = model.importance_of(x)[name].logits
    gates = model.importance_function.functions[name].parameters()
    assert_same_with_gradients(fast.importance[name].logits, plain, gates, tolerance=1e-3)


def test_inner_activations_are_the_plain_ones(model, x):
    fast, plain = FastForm(model, x, EXACT), PlainForm(model, x)
    assert fast.calls == list(fast.importance) == list(plain.importance)
    for call in fast.calls:
        assert_same_with_gradients(fast.inner(call), plain.inner(call), model.components.parameters())


def test_faithfulness_is_the_plain_one(model, x):
    found, expected = (form.faithfulness() for form in (FastForm(model, x, EXACT), PlainForm(model, x)))
    assert_same_with_gradients(found, expected, model.components.parameters(), 1e-12)


@pytest.mark.parametrize("p", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_are_the_plain_ones(model, x, p, weighted):
    weights = Weights(torch.rand(x.shape[:-1])) if weighted else EVEN
    found, expected = (
        form.penalty(model.site_names[::-1], p, 1e-12, weights)
        for form in (FastForm(model, x, EXACT), PlainForm(model, x))
    )
    assert_same_with_gradients(found, expected, _trained(model))


@pytest.mark.parametrize("with_delta", [False, True])
def test_noise_of_a_seed_is_the_plain_one(model, x, with_delta):
    delta = _rand(*x.shape[:-1]) if with_delta else None
    fast, plain = FastForm(model, x, EXACT), PlainForm(model, x)
    outputs = [
        form.masked({call: form.uniform_mask(call, delta, 3, None) for call in form.importance}).output
        for form in (fast, plain)
    ]
    assert_same_with_gradients(*outputs, _trained(model))
    for call in fast.calls:
        one, other = (form.uniform_mask(call, delta, 3, None) for form in (fast, plain))
        torch.testing.assert_close(one.components, other.components, rtol=1e-12, atol=1e-12)
        assert one.delta is other.delta is delta
        assert not torch.allclose(one.components, plain.uniform_mask(call, delta, 4, None).components)


def test_kept_outputs_are_the_plain_ones(model, x):
    masks, names = _masks(model, x.shape[:-1], delta=True), model.site_names
    fast = FastForm(model, x, EXACT).masked(masks, keep=names).kept
    plain = model.masked(x, masks, keep=names).kept
    assert list(fast) == list(plain) == names
    for name in names:
        torch.testing.assert_close(fast[name], plain[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("importance", [*IMPORTANCES.values()], ids=IMPORTANCES)
@pytest.mark.parametrize("form", [FastForm, PlainForm])
def test_a_step_is_gone_when_nobody_holds_it(form, importance):
    """In a cycle of references a whole step's activations would stay until Python happens to look for cycles."""
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), {"linear*": 4}, importance=importance)
    gc.disable()
    try:
        step = form(model, torch.rand(6, 5))
        masks = {name: SiteMask(ci.lower) for name, ci in step.importance.items()}
        step.masked(masks, {name: _routed((6,)) for name in masks}).output.sum().backward()
        left = weakref.ref(step)
        del step
        assert left() is None
    finally:
        gc.enable()
