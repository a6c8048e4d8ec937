"""A matrix that is written into a site is the one that its module then multiplies by."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from spd_lightning import UsageError
from spd_lightning.model.sites import ConvolutionSite, EmbeddingSite, LinearSite, Site, TransposedSite
from spd_lightning.model.ties import same_memory
from tests.model.test_sites import Conv1D

FLOATS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
CASES = {
    "linear": (LinearSite, nn.Linear(4, 6), None, FLOATS),
    "rows of a linear": (LinearSite, nn.Linear(4, 6), [range(1, 2), range(3, 6)], FLOATS),
    "transposed": (TransposedSite, Conv1D(6, 4), None, FLOATS),
    "rows of a transposed": (TransposedSite, Conv1D(6, 4), [range(2, 4)], FLOATS),
    "square transposed": (TransposedSite, Conv1D(4, 4), None, FLOATS),
    "embedding": (EmbeddingSite, nn.Embedding(5, 6), None, torch.tensor([0, 4, 4, 2])),
    "convolution": (ConvolutionSite, nn.Conv2d(2, 3, 2, stride=2), None, torch.arange(64.0).reshape(2, 2, 4, 4) / 64),
    "channels last": (
        ConvolutionSite,
        nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last),
        None,
        torch.arange(64.0).reshape(2, 2, 4, 4) / 64,
    ),
    "convolution in one dimension": (
        ConvolutionSite,
        nn.Conv1d(2, 3, 3),
        [range(1, 3)],
        torch.arange(12.0).reshape(1, 2, 6),
    ),
    "weight norm": (LinearSite, weight_norm(nn.Linear(4, 6)), None, FLOATS),
    "half precision": (LinearSite, nn.Linear(4, 6).bfloat16(), None, FLOATS.bfloat16()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_written_matrix_is_what_the_module_multiplies_by(name):
    kind, module, rows, site_input = CASES[name]
    site = kind(module, rows)
    whole, before = kind(module), kind(module).matrix().clone()
    wanted = torch.randn(site.d_out, site.d_in, generator=torch.Generator().manual_seed(1))
    names = list(module.state_dict())
    site.put(wanted)

    tolerance = 1e-2 if before.dtype == torch.bfloat16 else 1e-5
    assert torch.allclose(site.weight().float(), wanted, atol=tolerance, rtol=tolerance)
    changed = [row for run in rows or [range(len(before))] for row in run]
    others = [row for row in range(len(before)) if row not in changed]
    assert torch.equal(whole.matrix()[others], before[others])
    output = site.own_rows(site.taken(module(site_input)), -1)
    assert torch.allclose(
        output.float(), site.output(site.read(site_input, wanted.to(before).T)).float(), atol=10 * tolerance
    )
    assert list(module.state_dict()) == names


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Kernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.eye(3))


class NoParameter(LinearSite):
    def matrix(self):
        return self.module.kernel


class Turned(LinearSite):
    def matrix(self):
        return self.module.weight.T


class Flat(LinearSite):
    def stored(self, matrix):
        return matrix.flatten()


def _computed():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (
            lambda: LinearSite(_computed()),
            "weight of a ParametrizedLinear cannot be written: its weight is computed by",
        ),
        (lambda: NoParameter(Kernel()), "NoParameter must name its parameter in kept_in, got 'weight'"),
        (lambda: Turned(nn.Linear(3, 3)), "Turned.stored() must turn Turned.matrix() around"),
        (lambda: LinearSite(weight_norm(nn.Linear(3, 3))), "its parametrisation has none for this matrix"),
        (lambda: Flat(nn.Linear(3, 3)), "Flat.stored() must give [3, 3]"),
    ],
)
def test_a_matrix_that_cannot_be_written_is_refused(site, message):
    site = site()
    wanted = torch.arange(9.0).reshape(3, 3)
    wanted[0] = 0  # which weight norm has no direction for
    with pytest.raises(UsageError) as refused:
        site.put(wanted)
    assert message in str(refused.value)


def test_sites_are_one_matrix_where_their_memory_is():
    first, second, third = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    third.weight.data = first.weight.data.T
    one = LinearSite(first)

    assert same_memory(one, LinearSite(second))
    assert same_memory(one, LinearSite(third))
    assert not same_memory(one, LinearSite(nn.Linear(3, 3)))
    assert not same_memory(LinearSite(first, [range(2)]), LinearSite(first, [range(2, 3)]))
    assert not same_memory(one, LinearSite(first, [range(2)]))
    assert isinstance(one, Site)
