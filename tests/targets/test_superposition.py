"""The toy model of superposition by hand-made weights."""

import copy
import math
import pickle

import pytest
import torch

from spd_lightning import ToyModelOfSuperposition, UsageError
from spd_lightning.targets import KnownMechanisms, Mechanisms


@torch.no_grad()
def _by_hand(n_identity_layers=0):
    """Three features on two dimensions."""
    target = ToyModelOfSuperposition(3, 2, n_identity_layers)
    target.linear1.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]))
    target.linear2.bias.copy_(torch.tensor([0.5, -0.25, 0.0]))
    return target


@torch.no_grad()
def _with_columns(lengths, n_identity_layers=0):
    """One dimension per feature, columns of given lengths, no bias."""
    target = ToyModelOfSuperposition(len(lengths), len(lengths), n_identity_layers, zero_bias=True)
    target.linear1.weight.copy_(torch.diag(torch.tensor(lengths)))
    return target


@pytest.mark.parametrize("n_identity_layers", [0, 2])
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1.0, 2.0, 0.5], [2.5, 1.25, 2.5]),  # hidden (2, 1.5)
        ([0.0, 0.0, 0.0], [0.5, 0.0, 0.0]),  # the bias alone, its negative entry cut off
        ([-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_forward_by_hand(n_identity_layers, x, expected):
    assert _by_hand(n_identity_layers)(torch.tensor(x)).tolist() == pytest.approx(expected)


def test_identity_layers_are_run():
    target = _by_hand(n_identity_layers=2)
    with torch.no_grad():
        target.hidden_layers[1].weight.mul_(2)

    assert target(torch.tensor([1.0, 2.0, 0.5])).tolist() == pytest.approx([4.5, 2.75, 5.0])


def test_positions_are_independent_examples():
    target, x = _by_hand(n_identity_layers=1), torch.rand(2, 4, 3)

    output = target(x)

    assert output.shape == (2, 4, 3)
    torch.testing.assert_close(output.flatten(0, 1), torch.stack([target(row) for row in x.flatten(0, 1)]))


def test_what_is_wanted_is_the_magnitude():
    assert ToyModelOfSuperposition.label(torch.tensor([-0.5, 0.0, 0.75])).tolist() == [0.5, 0.0, 0.75]


def _move_by_cast(target):
    return target.double()


def _load_state(target):
    state = {name: torch.rand_like(tensor) for name, tensor in target.state_dict().items()}
    state["linear2.weight"] = state["linear1.weight"].T
    target.load_state_dict(state)
    return target


def _draw_anew(target):
    target.reset_parameters()
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda target: target,
        _move_by_cast,
        copy.deepcopy,
        lambda target: pickle.loads(pickle.dumps(target)),
        _load_state,
        _draw_anew,
    ],
    ids=["new", "cast", "copy", "pickle", "load", "reset"],
)
def test_tied_weights_share_storage_whatever_was_done(change):
    target = change(ToyModelOfSuperposition(3, 2))

    with torch.no_grad():
        target.linear1.weight[1, 2] = 7.0
        target.linear2.weight[0, 1] = -5.0

    assert target.linear2.weight[2, 1] == 7.0
    assert target.linear1.weight[1, 0] == -5.0
    assert torch.equal(target.linear2.weight, target.linear1.weight.T)


def test_a_copy_shares_nothing_with_the_original():
    target = _by_hand()
    twin = copy.deepcopy(target)

    with torch.no_grad():
        twin.linear1.weight.zero_()

    assert target.linear1.weight[0, 2] == 2.0
    assert target.linear2.weight[2, 0] == 2.0


def test_untied_weights_are_drawn_apart():
    target = ToyModelOfSuperposition(3, 2, tied=False)

    assert not torch.equal(target.linear2.weight, target.linear1.weight.T)
    with torch.no_grad():
        target.linear1.weight.zero_()
    assert target.linear2.weight.abs().sum() > 0


def test_an_optimiser_updates_shared_numbers_twice_a_step():
    tied, untied = _by_hand(), ToyModelOfSuperposition(3, 2, tied=False)
    moved = []
    for target in (tied, untied):
        before = target.linear1.weight.detach().clone()
        optimizer = torch.optim.AdamW(target.parameters(), lr=0.1, weight_decay=0.0)
        (target.linear1.weight.sum() + target.linear2.weight.sum()).backward()
        optimizer.step()  # AdamW's first update has the length of the learning rate
        moved.append(before - target.linear1.weight.detach())

    torch.testing.assert_close(moved[0], torch.full((2, 3), 0.2), rtol=1e-4, atol=0)
    torch.testing.assert_close(moved[1], torch.full((2, 3), 0.1), rtol=1e-4, atol=0)


def test_new_weights_leave_identity_layers_as_they_are():
    target = ToyModelOfSuperposition(3, 2, n_identity_layers=2)
    target.requires_grad_(True)
    before = target.linear1.weight.detach().clone()

    target.reset_parameters()

    assert not torch.equal(target.linear1.weight, before)
    for layer in target.hidden_layers:
        assert torch.equal(layer.weight, torch.eye(2))
        assert not layer.weight.requires_grad


@pytest.mark.parametrize("zero_bias", [True, False])
def test_the_bias_starts_at_zero_if_asked(zero_bias):
    assert (ToyModelOfSuperposition(5, 2, zero_bias=zero_bias).linear2.bias == 0).all() == zero_bias


def test_a_feature_with_a_short_column_is_not_represented():
    # a tenth of the longest is the limit
    assert _with_columns([2.0, 0.5, 0.1, 0.3]).alive_features() == [0, 1, 3]


def test_known_mechanisms_name_the_represented_features():
    target = _with_columns([1.0, 0.0, 1.0], n_identity_layers=1)

    assert isinstance(target, KnownMechanisms)
    assert target.known_mechanisms() == {
        "linear1": Mechanisms("identity", 2, [0, 2], "input"),
        "hidden_layers.0": Mechanisms("dense", 3, [0, 2], None),
        "linear2": Mechanisms("identity", 2, [0, 2], "output"),
    }


def test_flaws_name_the_features_that_do_not_come_back():
    # a one-hot input comes back multiplied by the squared column: 1, 0.04, 1.1 (within the tolerance) and 1.44
    flaws = _with_columns([1.0, 0.2, math.sqrt(1.1), 1.2]).flaws()

    assert flaws == [
        "feature 1: a one-hot input of 0.75 comes back as 0.030",
        "feature 3: a one-hot input of 0.75 comes back as 1.080",
    ]


def test_weights_that_are_no_numbers_are_a_flaw():
    target = _with_columns([1.0, 1.0])
    with torch.no_grad():
        target.linear2.bias[1] = float("nan")

    assert target.flaws() == ["feature 1: a one-hot input of 0.75 comes back as nan"]


@pytest.mark.parametrize("sizes", [(0, 2), (3, 0), (3, 2, -1)])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(UsageError, match=f"got {sizes[0]}, {sizes[1]} and {sizes[2] if len(sizes) > 2 else 0}$"):
        ToyModelOfSuperposition(*sizes)
