import copy
import pickle

import pytest
import torch
from torch import nn

from spd_lightning import ResidualMLP, ToyModelOfSuperposition, UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.methods.optimization import Optimization
from spd_lightning.model import Components, DecomposedModel, SiteMask, TiedComponents, TwinComponents
from spd_lightning.model.sites import LinearSite

SITES = {"linear1": 4, "linear2": 4}
TIES = {"linear2": "linear1"}
UPDATES = pytest.mark.parametrize("updates", ["once", "twice"])


@pytest.fixture
def make_tied(make_model):
    return lambda updates, **options: make_model(sites=SITES, ties=TIES, tied_updates=updates, **options)


def _assert_equal(model):
    one, other = model.components["linear1"], model.components["linear2"]
    assert torch.equal(other.V, one.U.T)
    assert torch.equal(other.U, one.V.T)


@pytest.fixture
def both(make_tied):
    """The two kinds of ties, with the same numbers."""
    once, twice = make_tied("once"), make_tied("twice")
    with torch.no_grad():
        for name in ("V", "U"):
            getattr(twice.components["linear1"], name).copy_(getattr(once.components["linear1"], name))
        twice.components["linear2"].mirror()
    return once, twice


def _masks(x):
    return {name: SiteMask(torch.full((4,), 0.6, dtype=x.dtype)) for name in SITES}


def test_tied_components_are_the_same_numbers(make_tied):
    model = make_tied("once")
    with torch.no_grad():
        model.components["linear1"].V.normal_()
    _assert_equal(model)
    assert [name for name, _ in model.components.named_parameters()] == ["linear1.V", "linear1.U"]
    assert model.components["linear1"].owns_factors
    assert not model.components["linear2"].owns_factors
    assert model.twins == []


def test_twins_have_numbers_of_their_own_that_start_equal():
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), SITES, ties=TIES, tied_updates="twice")
    one, other = model.components["linear1"], model.components["linear2"]
    _assert_equal(model)
    assert one.V.abs().min() > 0
    assert other.V.data_ptr() != one.U.data_ptr()
    assert other.owns_factors
    assert model.twins == [other]
    assert len(list(model.components.parameters())) == 4


@pytest.mark.parametrize("init", ["random", "examples", "adaptive"])
def test_twins_equal_a_source_that_comes_after_them(init):
    """From the beginning, and once examples were seen, at whichever of the two sites they show features."""
    ties = {"linear1": "linear2"}
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), SITES, ties=ties, tied_updates="twice", init=init)
    one, other = model.components["linear2"], model.components["linear1"]
    begun, x = one.V.detach().clone(), torch.zeros(64, 5)
    x[torch.arange(64), torch.arange(64) % 5] = torch.rand(64, generator=keyed_generator(0)) + 0.1

    for look in range(2):
        assert torch.equal(other.V, one.U.T)
        assert torch.equal(other.U, one.V.T)
        if look == 0 and init != "random":
            model.start_from_examples(x)
            assert not torch.equal(one.V, begun)


@UPDATES
@pytest.mark.parametrize("change", ["double", "deepcopy", "pickle", "reset", "load_state_dict"])
def test_they_stay_equal(make_tied, updates, change):
    model = make_tied(updates, dtype=torch.float32)
    if change == "double":
        model = model.double()
    elif change == "deepcopy":
        model = copy.deepcopy(model)
    elif change == "pickle":
        model = pickle.loads(pickle.dumps(model))
    elif change == "reset":
        model.reset()
    else:
        model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})
    _assert_equal(model)


@UPDATES
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_tied_to_itself_and_shares_nothing_with_the_original(make_tied, updates, copied):
    model = make_tied(updates)
    twin = copied(model)
    before = model.components["linear2"].V.clone()
    with torch.no_grad():
        twin.components["linear1"].U.zero_()
        for parts in twin.twins:
            parts.mirror()
    assert torch.equal(model.components["linear2"].V, before)
    assert not twin.components["linear2"].V.any()
    assert twin.components["linear2"].source is twin.components["linear1"]


@pytest.mark.parametrize(
    "change", [copy.deepcopy, lambda net: net.double(), lambda net: pickle.loads(pickle.dumps(net))]
)
def test_the_toy_target_stays_tied_too(change):
    target = change(ToyModelOfSuperposition(5, 2))
    assert target.linear2.weight.data_ptr() == target.linear1.weight.data_ptr()
    assert torch.equal(target.linear2.weight, target.linear1.weight.T)


def test_one_parameter_receives_the_sum_of_both_gradients(both, x):
    once, twice = both
    for model in both:
        model.masked(x, _masks(x)).output.square().sum().backward()
    first, second = twice.components["linear1"], twice.components["linear2"]
    tied = once.components["linear1"]
    torch.testing.assert_close(tied.V.grad, first.V.grad + second.U.grad.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tied.U.grad, first.U.grad + second.V.grad.T, rtol=1e-9, atol=1e-9)
    assert len(list(once.components.parameters())) == 2
    assert len(list(twice.components.parameters())) == 4


def test_joined_twins_have_taken_both_updates():
    """By hand: the source moves by 1 in ``V`` and 2 in ``U``, the twin by 30 and 40; both end up with both."""
    source, twin = (nn.Linear(*size, bias=False) for size in ((3, 2), (2, 3)))
    one = Components(LinearSite(source), 4)
    other = TwinComponents(LinearSite(twin), one)
    with torch.no_grad():
        one.V.fill_(5.0)
        one.U.fill_(6.0)
        other.mirror()
        before = other.V.clone(), other.U.clone()
        one.V += 1
        one.U += 2
        other.V += 30
        other.U += 40
    other.join(before)
    assert (one.V == 5 + 1 + 40).all()
    assert (one.U == 6 + 2 + 30).all()
    assert torch.equal(other.V, one.U.T)
    assert torch.equal(other.U, one.V.T)


def test_a_twin_of_the_same_weight_is_not_transposed():
    layer = nn.Linear(3, 2)
    one = Components(LinearSite(layer), 4)
    one.reset("random", keyed_generator("one"))
    for kind in (TiedComponents, TwinComponents):
        other = kind(LinearSite(layer), one)
        other.reset("random", keyed_generator("other"))
        assert torch.equal(other.V, one.V)
        assert torch.equal(other.U, one.U)
        torch.testing.assert_close(other.weight(), one.weight())


@pytest.mark.parametrize(("updates", "moves"), [("once", 1), ("twice", 2)])
def test_number_of_adam_updates_a_step(make_tied, updates, moves):
    """The first AdamW update moves every entry by the learning rate, whatever its gradient."""
    model = make_tied(updates)
    optimizer, _ = Optimization(lr=1e-3).build(model, total_steps=10, fused=False)
    before = model.components["linear1"].V.clone()
    (1e6 * model.components["linear1"].V).sum().backward()
    if updates == "twice":
        (1e6 * model.components["linear2"].U).sum().backward()
    optimizer.step()
    moved = before - model.components["linear1"].V
    torch.testing.assert_close(moved, torch.full_like(moved, moves * 1e-3), rtol=1e-6, atol=0)
    _assert_equal(model)
    states = [optimizer.state[parameter] for parameter in model.components.parameters() if parameter.grad is not None]
    assert len(states) == moves
    assert len({state["exp_avg"].data_ptr() for state in states}) == moves


def test_updates_of_twins_are_those_of_one_storage_that_is_listed_twice(make_tied):
    """The paper's code, whose two parameters are views of the same numbers, updates them in turn."""
    model = make_tied("twice")
    one, other = model.components["linear1"], model.components["linear2"]
    shared = nn.Parameter(one.V.detach().clone())
    mirrored = nn.Parameter(shared.data.T)  # the same storage
    optimizer, _ = Optimization(lr=1e-2).build(model, total_steps=10, fused=False)
    theirs = torch.optim.AdamW([shared, mirrored], lr=1e-2, weight_decay=0.0, foreach=False)
    for _ in range(5):
        gradients = torch.randn_like(one.V), torch.randn_like(other.U)
        one.V.grad, other.U.grad = (gradient.clone() for gradient in gradients)
        shared.grad, mirrored.grad = (gradient.clone() for gradient in gradients)
        optimizer.step()
        theirs.step()
        torch.testing.assert_close(one.V, shared, rtol=1e-12, atol=1e-12)
        _assert_equal(model)


def test_several_twins_of_one_site_stay_equal():
    sites, ties = {"layers.*.mlp_*": 4}, dict.fromkeys(("layers.0.mlp_out", "layers.1.mlp_out"), "layers.0.mlp_in")
    target = ResidualMLP(5, 2, d_mlp=3, d_embed=7)
    model = DecomposedModel(target, sites, ties=ties, tied_updates="twice").double()
    optimizer, _ = Optimization(lr=1e-2).build(model, total_steps=10, fused=False)
    model(torch.rand(6, 5, dtype=torch.float64)).square().sum().backward()
    before = model.components["layers.0.mlp_in"].V.clone()
    optimizer.step()
    source = model.components["layers.0.mlp_in"]
    assert (source.V - before).abs().max() > 2.5e-2  # three updates
    for name in ties:
        assert torch.equal(model.components[name].U, source.V.T)
        assert torch.equal(model.components[name].V, source.U.T)


@UPDATES
def test_each_site_keeps_gates_of_its_own(make_tied, updates):
    model = make_tied(updates)
    functions = model.importance_function.functions
    assert not torch.equal(functions["linear1"].weights[0], functions["linear2"].weights[0])


def test_both_kinds_compute_the_same(both, x):
    once, _ = both
    outputs = [model.masked(x, _masks(x)).output for model in both]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(outputs[0], once.target(x))


@pytest.mark.parametrize(
    ("ties", "sites", "message"),
    [
        ({"linear2": "linear3"}, SITES, "ties: 'linear2' and 'linear3' must be two different sites"),
        ({"linear9": "linear1"}, SITES, "ties: 'linear9' and 'linear1' must be two different sites"),
        ({"linear1": "linear1"}, SITES, "ties: 'linear1' and 'linear1' must be two different sites"),
        (TIES, {"linear1": 4, "linear2": 5}, "ties: 'linear2' must be the transpose of 'linear1' and have the same C"),
    ],
)
def test_ties_that_cannot_be(ties, sites, message):
    with pytest.raises(UsageError) as error:
        DecomposedModel(ToyModelOfSuperposition(5, 2), sites, ties=ties)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_ties_between_shapes_that_differ():
    target = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 3))
    with pytest.raises(UsageError, match="ties: '1' must be the transpose of '0' and have the same C"):
        DecomposedModel(target, {"*": 3}, ties={"1": "0"})
