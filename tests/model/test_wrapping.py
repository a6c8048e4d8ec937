"""The one place that runs the target: what it hands out, what it keeps, and that it leaves nothing behind."""

import pytest
import torch
from torch import nn

from spd_lightning import UsageError
from spd_lightning.model import DecomposedModel, FastForm, FastOptions, SiteMask, Wrapping
from spd_lightning.model.call import AutomaticCall
from spd_lightning.model.sites import LinearSite
from spd_lightning.model.wrapping import call_name, calls_in_order, site_of
from tests.comparison import assert_same_with_gradients

EXACT = FastOptions(nodes=0, compiled=False)


class Net(nn.Module):
    """Two layers; what else happens in its forward is up to the test."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.fails = False

    def forward(self, x):
        hidden = self.first(x)
        if self.fails:
            raise RuntimeError("broken on purpose")
        return self.second(hidden)


@pytest.fixture
def model():
    return DecomposedModel(Net(), {"*": 5})


@pytest.fixture
def masks(model):
    return {name: SiteMask(torch.rand(5)) for name in model.site_names}


def _patched(model):
    modules = model.target.named_modules()
    return [name for name, module in modules if "forward" in vars(module) or module._forward_hooks]


def test_nothing_is_left_behind(model, masks):
    x = torch.rand(6, 3)
    before = model.target(x)
    model.clean(x)
    model.masked(x, masks)
    assert _patched(model) == []
    assert torch.equal(model.target(x), before)


CALLS = {
    "clean": lambda model, x, masks: model.clean(x),
    "masked": lambda model, x, masks: model.masked(x, masks),
    "keeping": lambda model, x, masks: model.masked(x, masks, keep=["first", "second"]),
    "fast": lambda model, x, masks: FastForm(model, x, EXACT),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_left_behind_when_the_target_raises(model, masks, call):
    model.target.fails = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        CALLS[call](model, torch.rand(6, 3), masks)
    assert _patched(model) == []


def test_nothing_is_left_behind_when_a_handler_raises(model):
    def broken(path, index, site_input, original):
        raise RuntimeError(f"{path} is broken on purpose")

    with pytest.raises(RuntimeError, match="first is broken on purpose"):
        model.wrapping.run(torch.rand(6, 3), broken, keep=["first"])
    assert _patched(model) == []


def test_a_fast_form_leaves_nothing_behind_when_its_masked_pass_raises(model, masks):
    fast = FastForm(model, torch.rand(6, 3), EXACT)
    model.target.fails = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fast.masked(masks)
    assert _patched(model) == []


def test_a_forward_of_the_users_own_survives(model, masks):
    def own(x):
        assert x.dim() == 2
        return torch.zeros(len(x), 4)

    model.target.first.forward = own
    x = torch.rand(6, 3)
    model.clean(x)
    model.masked(x, masks)
    assert vars(model.target.first)["forward"] is own
    with pytest.raises(AssertionError):
        model.clean(torch.rand(2, 6, 3))
    assert vars(model.target.first)["forward"] is own
    assert _patched(model) == ["first"]
    assert torch.equal(model.target(x), model.target.second.bias.expand(6, 2))


def test_hooks_of_the_user_see_the_masked_activations(model, masks):
    seen = []
    model.target.first.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.rand(6, 3)
    model.masked(x, masks)
    expected = model.components["first"](x, masks["first"])
    torch.testing.assert_close(seen, [expected])


def test_hooks_of_the_user_run_in_a_clean_pass_too(model):
    model.target.first.register_forward_hook(lambda module, args, output: 2 * output)
    model.target.second.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    x = torch.rand(6, 3)
    hidden = 2 * nn.functional.linear(x, model.target.first.weight, model.target.first.bias) + 1
    for clean in (model.clean(x), FastForm(model, x, EXACT).clean):
        torch.testing.assert_close(clean.site_inputs["second"], hidden)
        torch.testing.assert_close(clean.output, model.target(x))


def test_names_of_calls():
    assert call_name("a.b", 0, 1) == "a.b"
    assert [call_name("a[q]", index, 2) for index in (0, 1)] == ["a[q]@0", "a[q]@1"]
    assert [site_of(call) for call in ("a.b", "a.b@1", "a[0:2]@10")] == ["a.b", "a.b", "a[0:2]"]
    recorded = {("b", 0): 1, ("a", 0): 2, ("b", 1): 3}
    assert calls_in_order(recorded, ["a", "b"]) == {("a", 0): "a", ("b", 0): "b@0", ("b", 1): "b@1"}
    assert list(calls_in_order(recorded, ["a", "b"]).values()) == ["a", "b@0", "b@1"]


def test_a_site_that_is_never_called():
    net = Net()
    net.spare = nn.Linear(3, 3)
    model = DecomposedModel(net, {"*": 5})
    for look in (model.clean, lambda x: FastForm(model, x, EXACT)):
        with pytest.raises(UsageError, match="sites: the target's forward never calls 'spare'; leave it out, or give"):
            look(torch.rand(2, 3))
    assert _patched(model) == []


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.layer(self.layer(x).tanh()))


@pytest.fixture
def twice():
    return DecomposedModel(Twice().double(), {"*": 4})


def test_a_site_that_is_called_twice_has_two_calls(twice):
    x, net = torch.randn(5, 3, dtype=torch.float64), twice.target
    clean = twice.clean(x)
    assert list(clean.site_inputs) == list(twice.importance(clean)) == ["layer@0", "layer@1", "head"]
    torch.testing.assert_close(clean.site_inputs["layer@1"], net.layer(x).tanh())
    assert twice.site_names == ["layer", "head"]


def test_each_call_has_its_own_mask_or_all_have_the_sites(twice):
    x, layer = torch.randn(5, 3, dtype=torch.float64), twice.components["layer"]
    one, other = SiteMask(torch.rand(5, 4).double(), torch.rand(5).double()), SiteMask(torch.rand(5, 4).double())
    runs = torch.tensor([True, False, True, True, False])

    def expected(first, second):
        return twice.target.head(second(first(x).tanh()))

    def masked(mask):
        return lambda a: layer(a, mask)

    own = twice.target.layer
    cases = [
        ({"layer@0": one, "layer@1": other}, None, lambda: expected(masked(one), masked(other))),
        ({"layer": one}, None, lambda: expected(masked(one), masked(one))),
        ({"layer": one, "layer@1": other}, None, lambda: expected(masked(one), masked(other))),
        ({"layer@1": one}, None, lambda: expected(own, masked(one))),
        (
            {"layer": one},
            {"layer@1": runs},
            lambda: expected(masked(one), lambda a: torch.where(runs[:, None], layer(a, one), own(a))),
        ),
    ]
    for masks, routing, wanted in cases:
        for run in (lambda *given: twice.masked(x, *given), FastForm(twice, x, EXACT).masked):
            assert_same_with_gradients(run(masks, routing).output, wanted(), layer.parameters())


def test_kept_outputs_of_several_calls(twice):
    x, layer = torch.randn(5, 3, dtype=torch.float64), twice.target.layer
    for form in (twice.masked(x, {}, keep=["layer"]), FastForm(twice, x, EXACT).masked({}, keep=["layer"])):
        assert list(form.kept) == ["layer@0", "layer@1"]
        torch.testing.assert_close(form.kept["layer@0"], layer(x))
        torch.testing.assert_close(form.kept["layer@1"], layer(layer(x).tanh()))


class Overwriting(nn.Module):
    """Writes into what its first layer put out, which its second has read."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        hidden = self.first(x)
        update = self.second(hidden)
        return hidden.mul_(2).add_(update)


def test_what_the_network_overwrites_is_kept_as_it_was():
    model = DecomposedModel(Overwriting().double(), {"*": 3})
    x = torch.randn(5, 3, dtype=torch.float64)
    first, second = model.target.first, model.target.second
    clean = model.clean(x)
    torch.testing.assert_close(clean.site_inputs["second"], first(x))
    torch.testing.assert_close(clean.output, 2 * first(x) + second(first(x)))
    assert model.wrapping.copied == {"second@0 in"}
    masks = {name: SiteMask(torch.rand(5, 3).double(), torch.rand(5).double()) for name in model.site_names}
    for run in (lambda given: model.masked(x, given), FastForm(model, x, EXACT).masked):
        hidden = model.components["first"](x, masks["first"])
        expected = 2 * hidden + model.components["second"](hidden, masks["second"])
        assert_same_with_gradients(run(masks).output, expected, model.components.parameters())
    kept = model.masked(x, masks, keep=["first"]).kept["first"]
    torch.testing.assert_close(kept, hidden)


def test_handlers_stand_in_for_the_modules_they_are_given():
    net, seen = Net(), []
    sites = {"first": LinearSite(net.first), "second": LinearSite(net.second)}
    wrapping, x = Wrapping(net, AutomaticCall(), sites), torch.rand(6, 3)

    def handler(path, index, site_input, original):
        seen.append((path, index, tuple(site_input.shape)))
        return 0 * original(site_input)

    assert not wrapping.run(x, handler).output.any()
    assert seen == [("first", 0, (6, 3)), ("second", 0, (6, 4))]
    seen.clear()
    torch.testing.assert_close(wrapping.run(x, handler, modules=["first"]).output, net.second(torch.zeros(6, 4)))
    assert seen == [("first", 0, (6, 3))]


def test_the_target_may_be_entered_in_another_way(model):
    def enter(arguments):
        assert arguments.kwargs == {}
        return model.target(2 * arguments.args[0])

    x = torch.rand(6, 3)
    found = model.wrapping.run(x, lambda path, index, a, original: original(a), enter=enter)
    assert torch.equal(found.output, model.target(2 * x))


@pytest.mark.parametrize("given", ["two tensors", "text"])
def test_a_site_that_is_called_with_anything_but_one_tensor(given):
    class Odd(Net):
        def forward(self, x):
            return self.first(x, x) if given == "two tensors" else self.first("x")

    model = DecomposedModel(Odd(), {"first": 2})
    with pytest.raises(UsageError, match=r"sites: the target calls 'first' with [12] arguments, not one tensor; leave"):
        model.clean(torch.rand(2, 3))
    assert _patched(model) == []


def test_a_site_that_is_called_by_keyword():
    class Keyword(Net):
        def forward(self, x):
            return self.second(input=self.first(input=x))

    model = DecomposedModel(Keyword(), {"*": 2})
    assert list(model.clean(torch.rand(2, 3)).site_inputs) == ["first", "second"]


def test_an_output_that_is_no_tensor():
    class Pair(Net):
        def forward(self, x):
            return super().forward(x), x

    model = DecomposedModel(Pair(), {"first": 2, "second": 2})
    said = "target: its output must be one tensor, got a tuple of 2; choose one with model.call's output"
    for look in (model.clean, lambda x: FastForm(model, x, EXACT)):
        with pytest.raises(UsageError, match=said):
            look(torch.rand(2, 3))
    assert _patched(model) == []


def test_modules_that_put_out_no_tensor_cannot_be_kept():
    class Inner(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Outer(Net):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return super().forward(self.inner(x)["x"])

    model = DecomposedModel(Outer(), {"first": 2})
    with pytest.raises(UsageError, match="keep: module 'inner' puts out a dict, not a tensor"):
        model.masked(torch.rand(2, 3), {}, keep=["inner"])
    assert _patched(model) == []
