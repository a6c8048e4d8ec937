"""What misbehaves is refused in one line before the first step; what does not is left alone."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from spd_lightning import DecomposedModel, GateMLP, PerSite, UsageError
from spd_lightning.model import FastForm, FastOptions, check_wrapping
from spd_lightning.model.sites.linear import LinearSite
from tests.networks.misbehaving import MISBEHAVING, WIDTH
from tests.networks.models import decomposed
from tests.networks.zoo import ZOO, example

EXACT = FastOptions(nodes=0, compiled=False)


def _checked(model, batch):
    check_wrapping(model, batch, lambda batch: FastForm(model, batch, EXACT))


@pytest.mark.parametrize("cls", MISBEHAVING, ids=lambda cls: cls.__name__)
def test_misbehaviour_is_refused_by_name(cls):
    torch.manual_seed(0)
    model = DecomposedModel(cls(), {"first": 4, "second": 3})
    with pytest.raises(UsageError, match=MISBEHAVING[cls]) as refusal:
        _checked(model, torch.randn(5, WIDTH))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ZOO)
def test_the_well_behaved_pass_and_are_left_as_they_were(name):
    model, batch = decomposed(name), example(name)
    state = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    _checked(model, batch)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any("forward" in vars(module) for module in model.target.modules())
    leaves = zip(torch.utils._pytree.tree_leaves(batch), torch.utils._pytree.tree_leaves(example(name)), strict=True)
    assert all(torch.equal(one, other) for one, other in leaves if isinstance(one, Tensor))


def test_a_fast_form_that_is_wrong_is_refused(monkeypatch):
    model = DecomposedModel(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)), {"0": 3, "2": 3}
    )
    before = FastForm._written
    monkeypatch.setattr(FastForm, "_written", lambda *args: 1.01 * before(*args))
    with pytest.raises(UsageError, match=r"fast form.*speed\.step: plain"):
        _checked(model, torch.randn(6, 4))


def test_writes_that_no_counter_sees_are_copied():
    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4)

        def forward(self, x):
            h = self.a(x)
            h.data.mul_(2)
            return self.b(h)

    model = DecomposedModel(Hidden(), {"*": 3}, importance=partial(PerSite, function=partial(GateMLP, hidden=[3])))
    _checked(model, torch.randn(5, 4))
    assert "a@0 out" in model.wrapping.copied


class Transposed(LinearSite):
    """A kind that gives the matrix the wrong way round."""

    def matrix(self):
        return super().matrix().T


class Flat(LinearSite):
    """A kind that gives no matrix."""

    def matrix(self):
        return super().matrix().flatten()


def test_a_kind_of_ones_own_that_does_not_fit_is_one_line():
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    with pytest.raises(UsageError, match=r"Flat.matrix\(\) must give \[rows, d_in\], got \[20\]"):
        DecomposedModel(network, {"0": 3}, kinds=[Flat])

    model = DecomposedModel(network, {"0": 3}, kinds=[Transposed])
    with pytest.raises(UsageError, match=r"runs as it is, but not with components in it: RuntimeError: .*kinds"):
        check_wrapping(model, torch.rand(6, 5))
