"""Which modules become sites, and what is said of the others."""

import pytest
import torch
from torch import nn

from spd_lightning import AutomaticCall, UsageError
from spd_lightning.model.sites import LinearSite
from spd_lightning.recommend.candidates import find_candidates
from tests.recommend.networks import Mixed


def _found(target, batch, kinds=()):
    call = AutomaticCall()
    call.bind(target)
    return find_candidates(target.requires_grad_(False).eval(), call, batch, kinds)


def test_every_module_with_a_matrix_is_a_site_or_told_why_not():
    found = _found(Mixed(), torch.randint(7, (2, 3)))

    assert found.sites == ("qkv[q]", "qkv[k]", "qkv[v]", "mix", "silent")
    reasons = {
        "table": "a look-up",
        "unused": "never calls",
        "direct": "without calling it",
        "grouped": "group",
        "the network itself": "no kind of site",
        "attention": "Unfused",
        "attention.out_proj": "without calling it",
        "head": "that of the look-up 'table'",
    }
    assert found.left_out.keys() == reasons.keys()
    for name, part in reasons.items():
        assert part in found.left_out[name]


def test_the_weights_are_what_they_were():
    target = Mixed()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    _found(target, torch.randint(7, (2, 3)))

    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_how_a_weight_is_computed_is_no_module_of_its_own():
    target = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))

    found = _found(target, torch.randn(4, 3))
    assert found.sites == ("0", "1")
    assert not found.left_out


class Scaled(nn.Module):
    """A matrix of one's own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        return x @ self.weight.T


class ScaledSite(LinearSite):
    """The kind of it."""

    @classmethod
    def suits(cls, module):
        return isinstance(module, Scaled)


def test_kinds_of_one_s_own_are_sites():
    target = nn.Sequential(Scaled(), nn.Tanh())

    assert _found(target, torch.randn(4, 3), [ScaledSite]).sites == ("0",)
    with pytest.raises(UsageError, match=r"no module of it can be a site .*'0': a Scaled, which is no kind of site"):
        _found(target, torch.randn(4, 3))


@pytest.mark.parametrize("target", [nn.ReLU(), nn.Sequential(nn.LayerNorm(3))])
def test_a_network_without_a_matrix_is_refused(target):
    with pytest.raises(UsageError, match=r"no module of it can be a site .none holds a matrix"):
        _found(target, torch.randn(4, 3))


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"data: the target fails on a batch of \[4, 5\] float32"):
        _found(nn.Sequential(nn.Linear(3, 3)), torch.randn(4, 5))
