import copy
from functools import partial

import pytest
import torch
from torch import nn

from spd_lightning import ToyModelOfSuperposition, UsageError
from spd_lightning.functional import lower_leaky, upper_leaky
from spd_lightning.model import (
    DecomposedModel,
    GateMLP,
    ImportanceFunction,
    InnerMLP,
    PerSite,
    SharedMLP,
    SiteMask,
    VectorMLP,
)
from tests import reference
from tests.comparison import assert_same_with_gradients

ONES = object()


def _masks(model, x, value=ONES, delta=None):
    masks = {}
    for name, parts in model.components.items():
        shape = (*x.shape[:-1], parts.n_components)
        components = torch.ones(shape, dtype=x.dtype) if value is ONES else torch.rand(shape, dtype=x.dtype) * value
        masks[name] = SiteMask(components, None if delta is None else torch.full(x.shape[:-1], delta, dtype=x.dtype))
    return masks


def test_clean_pass_is_the_target_with_the_input_of_every_site(make_model, x):
    model = make_model(n_identity_layers=1, sites={"linear*": 4, "hidden_layers.*": 3})
    clean = model.clean(x)
    assert torch.equal(clean.output, model.target(x))
    assert list(clean.site_inputs) == model.site_names == ["linear1", "hidden_layers.0", "linear2"]
    hidden = x @ model.target.linear1.weight.T
    assert torch.equal(clean.site_inputs["linear1"], x)
    torch.testing.assert_close(clean.site_inputs["linear2"], hidden, rtol=1e-9, atol=1e-9)
    assert not clean.output.requires_grad


def test_clean_pass_has_no_gradient_even_if_the_input_has(make_model, x):
    clean = make_model().clean(x.requires_grad_())
    assert not clean.output.requires_grad
    assert not clean.site_inputs["linear2"].requires_grad


@pytest.mark.parametrize("leak", ["one_sided", "linear"])
@pytest.mark.parametrize("function", [GateMLP, InnerMLP, SharedMLP, VectorMLP])
def test_importances_come_from_clean_inputs(make_model, x, leak, function):
    model = make_model(leak=leak, importance=partial(PerSite, function=function))
    clean = model.clean(x)
    for name, importance in model.importance(clean).items():
        a = clean.site_inputs[name]
        logits = model.importance_function.functions[name](a @ model.components[name].V, a)
        torch.testing.assert_close(importance.logits, logits)
        torch.testing.assert_close(importance.lower, lower_leaky(logits, leak))
        torch.testing.assert_close(importance.upper, upper_leaky(logits))


@pytest.mark.parametrize(
    ("function", "reads_inner"), [(GateMLP, True), (InnerMLP, True), (SharedMLP, False), (VectorMLP, False)]
)
def test_gate_trains_the_read_vectors_and_a_vector_input_does_not(make_model, x, function, reads_inner):
    model = make_model(importance=partial(PerSite, function=function))
    importances = model.importance_of(x)
    gradients = torch.autograd.grad(
        sum(ci.logits.sum() for ci in importances.values()),
        [model.components["linear1"].V, model.components["linear1"].U],
        allow_unused=True,
    )
    assert (gradients[0] is not None) == reads_inner
    assert gradients[1] is None


@pytest.mark.parametrize("delta", [None, 0.3])
@pytest.mark.parametrize("routed", [False, True])
def test_masked_pass_equals_one_weight_matrix_per_example(make_model, x, delta, routed):
    model = make_model(n_identity_layers=1, sites={"linear*": 4, "hidden_layers.0": 3})
    masks = _masks(model, x, 1.2, delta)
    routing = {name: torch.rand(x.shape[:-1]) < 0.5 for name in masks} if routed else None
    sites = {name: (parts.site.weight(), parts.V, parts.U) for name, parts in model.components.items()}
    expected = reference.masked_tms(
        x.reshape(-1, 5),
        sites,
        model.target.linear2.bias,
        {name: mask.components.flatten(0, -2) for name, mask in masks.items()},
        None if delta is None else {name: mask.delta.flatten() for name, mask in masks.items()},
        None if routing is None else {name: runs.flatten() for name, runs in routing.items()},
    ).reshape(x.shape)
    assert_same_with_gradients(model.masked(x, masks, routing).output, expected, model.components.parameters())


def test_all_masks_and_delta_on_is_the_target(make_model, x):
    model = make_model(dtype=torch.float32)
    x = x.float()
    output = model.masked(x, _masks(model, x, delta=1.0)).output
    torch.testing.assert_close(output, model.target(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model.masked(x, _masks(model, x)).output, model.target(x), atol=1e-2)


def test_no_masks_is_the_target_exactly(make_model, x):
    model = make_model()
    assert torch.equal(model.masked(x, {}).output, model.target(x))
    nowhere = {name: torch.zeros(x.shape[:-1], dtype=torch.bool) for name in model.site_names}
    torch.testing.assert_close(model.masked(x, _masks(model, x), nowhere).output, model.target(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["linear1", "linear2"])
def test_zeroing_one_site_changes_the_output(make_model, x, name):
    model = make_model()
    off = _masks(model, x, 0.0, delta=0.0)[name]
    assert not torch.allclose(model.masked(x, {name: off}).output, model.target(x), atol=1e-3)


def test_forward_is_the_unmasked_decomposition(make_model, x):
    model = make_model()
    torch.testing.assert_close(model(x), model.masked(x, _masks(model, x)).output, rtol=1e-12, atol=1e-12)


def test_later_sites_read_the_masked_network(make_model, x):
    model = make_model()
    masks = _masks(model, x, 0.0)
    torch.testing.assert_close(model.masked(x, masks).output, model.target.linear2.bias.relu().expand_as(x))


def test_the_target_is_frozen_and_stays_in_eval_mode(make_model):
    model = make_model().train()
    assert model.training
    assert not any(module.training for module in model.target.modules())
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_same_seed_same_start_other_seed_other_start():
    def start(seed):
        torch.manual_seed(seed + 17)
        target = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 3))
        nn.init.constant_(target[0].weight, 0.1)
        return DecomposedModel(target, {"*": 5}, seed=seed)

    first, again, other = start(0), start(0), start(1)
    trained = [name for name, parameter in first.named_parameters() if parameter.requires_grad]
    for name in trained:
        mine = first.get_parameter(name)
        assert torch.equal(mine, again.get_parameter(name))
        if "biases" not in name:
            assert not torch.equal(mine, other.get_parameter(name))


def test_a_reset_starts_anew_from_the_weights_that_the_target_has_now():
    model = DecomposedModel(nn.Sequential(nn.Linear(3, 4)), {"0": 5}, init="overlap")
    before = model.components["0"].U.clone()
    with torch.no_grad():
        model.target[0].weight.mul_(3)
    model.reset()
    torch.testing.assert_close(model.components["0"].U, 3 * before)


def test_permuting_components_changes_no_output(make_model, x):
    model = make_model()
    permuted = copy.deepcopy(model)
    _permute(permuted)
    masks = _masks(model, x, 1.0, delta=0.5)
    shuffled = {name: SiteMask(mask.components.flip(-1), mask.delta) for name, mask in masks.items()}
    torch.testing.assert_close(permuted.masked(x, shuffled).output, model.masked(x, masks).output, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def _permute(model):
    for name, parts in model.components.items():
        parts.V.copy_(parts.V.flip(1))
        parts.U.copy_(parts.U.flip(0))
        for parameter in model.importance_function.functions[name].parameters():
            parameter.copy_(parameter.flip(0))


@pytest.mark.parametrize("function", [GateMLP, InnerMLP, SharedMLP, VectorMLP])
def test_a_double_precision_target_needs_nothing_else(function):
    target = nn.Sequential(nn.Linear(3, 4)).double()
    model = DecomposedModel(target, {"0": 5}, importance=partial(PerSite, function=function))
    importances = model.importance_of(torch.rand(2, 3, dtype=torch.float64))
    assert importances["0"].lower.dtype == torch.float64


def test_a_copy_is_independent_of_the_original(make_model, x):
    model = make_model()
    twin = copy.deepcopy(model)
    before = model(x)
    with torch.no_grad():
        twin.components["linear1"].V.zero_()
        twin.target.linear1.weight.zero_()
    assert torch.equal(model(x), before)
    assert twin.components["linear1"].site.module is twin.target.linear1


def test_sites_with_dots_have_readable_names_in_the_state(make_model):
    model = make_model(n_identity_layers=1, sites={"hidden_layers.*": 3})
    assert "components.hidden_layers-0.V" in model.state_dict()
    assert "hidden_layers.0" in model.components
    assert len(model.components) == 1
    assert [parts.n_components for parts in model.components.values()] == [3]


@pytest.mark.parametrize("updates", ["once", "twice"])
def test_started_from_examples_it_is_the_target(updates):
    target, x = ToyModelOfSuperposition(7, 3), torch.rand(64, 7)
    ties = {"linear2": "linear1"}
    model = DecomposedModel(target, {"linear*": 12}, init="examples", ties=ties, tied_updates=updates, seed=5)
    drawn = DecomposedModel(target, {"linear*": 12}, init="random", ties=ties, tied_updates=updates, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), drawn.parameters(), strict=True))

    model.start_from_examples(x)

    torch.testing.assert_close(model(x), target(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(model.components["linear2"].V, model.components["linear1"].U.T)
    functions = model.importance_function.parameters(), drawn.importance_function.parameters()
    assert all(torch.equal(gate, other) for gate, other in zip(*functions, strict=True))


@pytest.mark.parametrize(("probability", "like"), [(0.05, "examples"), (0.9, "random")])
def test_an_adaptive_start_is_from_examples_where_features_come_one_at_a_time(probability, like):
    x = torch.rand(500, 7) * (torch.rand(500, 7) < probability)
    target, sites = ToyModelOfSuperposition(7, 3), {"linear*": 12}
    model, expected = (DecomposedModel(target, sites, init=init, seed=5) for init in ("adaptive", like))

    model.start_from_examples(x)
    if like == "examples":
        expected.start_from_examples(x)

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_nothing_but_zeros_cannot_start_components():
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), {"linear1": 8}, init="examples")
    with pytest.raises(UsageError, match="init: 'examples' cannot start 'linear1': every example is zero"):
        model.start_from_examples(torch.zeros(4, 5))


def test_what_modules_put_out_is_kept_by_name(make_model, x):
    model = make_model()
    masks = _masks(model, x, 1.0, delta=0.5)
    found = model.masked(x, masks, keep=["linear1", "linear2"])
    torch.testing.assert_close(found.kept["linear1"], model.components["linear1"](x, masks["linear1"]))
    torch.testing.assert_close(found.kept["linear2"].relu(), found.output)
    with pytest.raises(UsageError, match=r"keep: the target has no module 'linear3'"):
        model.masked(x, masks, keep=["linear3"])


def test_a_plain_tensor_is_a_mask_without_delta(make_model, x):
    model = make_model()
    masks = _masks(model, x, 1.0)
    plain = {name: mask.components for name, mask in masks.items()}
    assert torch.equal(model.masked(x, plain).output, model.masked(x, masks).output)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"linear3": torch.ones(4)}, "masks: there is no site 'linear3'; the sites are linear1, linear2"),
        ({"linear1": torch.ones(3)}, r"masks: 'linear1' has 4 components, got a mask of shape \[3\]"),
        ({"linear1": torch.ones(())}, r"masks: 'linear1' has 4 components, got a mask of shape \[\]"),
        ({"linear1": "on"}, "masks: 'linear1' must be a tensor, an array or a SiteMask, got a str"),
    ],
)
def test_masks_that_do_not_fit_are_refused(make_model, x, masks, said):
    with pytest.raises(UsageError, match=said) as refusal:
        make_model().masked(x, masks)
    assert "\n" not in str(refusal.value)


class _Narrow(ImportanceFunction):
    """Gives one logit for all components, or forgets a site."""

    def __init__(self, sites, forgets):
        super().__init__(sites)
        self.forgets = forgets

    def reset(self, generator):
        pass

    def forward(self, inner, features):
        narrow = {call: activations[..., :1] for call, activations in inner.items()}
        return {call: logits for call, logits in narrow.items() if not self.forgets or call != "linear1"}


@pytest.mark.parametrize(("forgets", "got"), [(False, r"shape \[6, 1\]"), (True, "none")])
def test_an_importance_function_that_gives_other_logits_is_refused(forgets, got):
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), {"linear*": 4}, importance=partial(_Narrow, forgets=forgets))
    said = r"importance: _Narrow must give logits of shape \[6, 4\] for 'linear1', got " + got
    with pytest.raises(UsageError, match=said):
        model.importance_of(torch.rand(6, 5))


def test_sites_of_one_parameter_are_tied_without_being_named():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.embed(ids))

    model = DecomposedModel(Tied(), {"embed": 5, "head": 5})
    assert [name for name, _ in model.components.named_parameters()] == ["embed.V", "embed.U"]
    torch.testing.assert_close(model.components["head"].weight(), model.components["embed"].weight().T)
    assert model.explained() == [model.components["embed"]]
    with pytest.raises(UsageError, match="ties: 'head' must be the transpose of 'embed' and have the same C"):
        DecomposedModel(Tied(), {"embed": 5, "head": 6})
