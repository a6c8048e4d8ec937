import copy
import pickle

import pytest
import torch
from torch import nn

from spd_lightning import ToyModelOfSuperposition, UsageError
from spd_lightning.model import DecomposedModel, SiteMask

SITES = {"linear1": 4, "linear2": 4}
TIES = {"linear2": "linear1"}
UPDATES = pytest.mark.parametrize("updates", ["once", "twice"])


@pytest.fixture
def make_tied(make_model):
    return lambda updates, **options: make_model(sites=SITES, ties=TIES, tied_updates=updates, **options)


def _assert_shared(model):
    one, other = model.components["linear1"], model.components["linear2"]
    assert torch.equal(other.V, one.U.T)
    assert torch.equal(other.U, one.V.T)
    assert other.V.data_ptr() == one.U.data_ptr()
    assert other.U.data_ptr() == one.V.data_ptr()


@pytest.fixture
def both(make_tied):
    """The two kinds of ties, with the same numbers."""
    once, twice = make_tied("once"), make_tied("twice")
    with torch.no_grad():
        for name in ("V", "U"):
            getattr(twice.components["linear1"], name).copy_(getattr(once.components["linear1"], name))
    return once, twice


def _masks(x):
    return {name: SiteMask(torch.full((4,), 0.6, dtype=x.dtype)) for name in SITES}


@UPDATES
def test_tied_components_share_their_numbers(make_tied, updates):
    model = make_tied(updates)
    _assert_shared(model)
    with torch.no_grad():
        model.components["linear1"].V.normal_()
    _assert_shared(model)


@UPDATES
@pytest.mark.parametrize("change", ["double", "deepcopy", "pickle", "reset", "load_state_dict"])
def test_they_stay_shared(make_tied, updates, change):
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
    _assert_shared(model)


def test_a_copy_shares_nothing_with_the_original(make_tied):
    model = make_tied("twice")
    twin = copy.deepcopy(model)
    before = model.components["linear2"].V.clone()
    with torch.no_grad():
        twin.components["linear1"].U.zero_()
    assert torch.equal(model.components["linear2"].V, before)


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
        model.masked(x, _masks(x)).square().sum().backward()
    first, second = twice.components["linear1"], twice.components["linear2"]
    tied = once.components["linear1"]
    torch.testing.assert_close(tied.V.grad, first.V.grad + second.U.grad.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tied.U.grad, first.U.grad + second.V.grad.T, rtol=1e-9, atol=1e-9)
    assert len(list(once.components.parameters())) == 2
    assert len(list(twice.components.parameters())) == 4


@pytest.mark.parametrize(("updates", "moves"), [("once", 1), ("twice", 2)])
def test_number_of_adam_updates_a_step(make_tied, updates, moves):
    """The first AdamW update moves every entry by the learning rate, whatever its gradient."""
    model = make_tied(updates)
    optimizer = torch.optim.AdamW(model.components.parameters(), lr=1e-3, weight_decay=0, eps=1e-30, foreach=False)
    before = model.components["linear1"].V.clone()
    model.components["linear1"].V.sum().backward()
    if updates == "twice":
        model.components["linear2"].U.sum().backward()
    optimizer.step()
    moved = before - model.components["linear1"].V
    torch.testing.assert_close(moved, torch.full_like(moved, moves * 1e-3), rtol=1e-6, atol=0)
    if updates == "twice":
        _assert_shared(model)
        states = [
            optimizer.state[parameter] for parameter in model.components.parameters() if parameter.grad is not None
        ]
        assert len(states) == 2
        assert states[0]["exp_avg"].data_ptr() != states[1]["exp_avg"].data_ptr()


@UPDATES
def test_each_site_keeps_gates_of_its_own(make_tied, updates):
    model = make_tied(updates)
    assert not torch.equal(model.ci_fns["linear1"].weights[0], model.ci_fns["linear2"].weights[0])


def test_both_kinds_compute_the_same(both, x):
    once, twice = both
    torch.testing.assert_close(once.masked(x, _masks(x)), twice.masked(x, _masks(x)), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(once.masked(x, _masks(x)), once.target(x))


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
