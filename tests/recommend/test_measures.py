"""What is measured of networks whose numbers are known."""

import pytest
import torch
from torch import nn

from spd_lightning import DecomposedModel, KeywordCall, UsageError
from spd_lightning.functional import WeightedBatch
from spd_lightning.recommend.equal_weights import equal_weights
from spd_lightning.recommend.measures import measure
from tests.recommend.networks import Squeezed, sparse


def _measured(target, batches, kind="mse", **options):
    names = {name: 1 for name, module in target.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    return measure(DecomposedModel(target, names, **options), batches, kind)


def test_ranks_directions_and_empty_examples_of_a_written_network():
    data = sparse(merge_empty=False)
    batches = [data.train_batch(index) for index in range(4)]
    found = _measured(Squeezed(), batches)

    assert [found.sites[name].rank for name in ("down", "up", "out")] == [3, 3, 2]
    assert [found.sites[name].shape for name in ("down", "up")] == [(3, 6), (6, 3)]
    empty = (torch.cat(batches[: len(batches)]) == 0).all(1).float().mean().item()
    for name in ("down", "up", "out"):
        reached = found.sites[name].reached
        assert reached.directions == 6
        assert reached.empty == pytest.approx(empty, abs=0.02)
        assert reached.positions == 1
        assert not reached.spread
        assert found.features_of(name) == 6
    assert found.sites["down"].reached.dimension == pytest.approx(6, abs=0.5)
    assert found.sites["up"].reached.dimension <= 3
    assert found.inputs.directions == 6


def test_costs_and_variation_are_those_of_the_output():
    target, x = Squeezed(), torch.rand(50, 6)
    found = _measured(target, [x])

    with torch.no_grad():
        output = target(x)
        assert found.cost == pytest.approx(output.square().mean().item(), rel=1e-4)
        assert found.variation == pytest.approx((output - output.mean(0)).square().mean().item(), rel=1e-4)
    for site in found.sites.values():  # without biases any of them takes everything along
        assert site.cost == pytest.approx(1, rel=1e-4)


def test_one_weighted_row_counts_as_what_it_stands_for():
    x = torch.cat([torch.zeros(1, 6), torch.rand(3, 6)])
    found = _measured(Squeezed(), [WeightedBatch(x, torch.tensor([0.7, 0.1, 0.1, 0.1]))])

    assert found.sites["down"].reached.empty == pytest.approx(0.7)
    assert found.sites["down"].reached.vectors == 3


class Tagger(nn.Module):
    """A layer on vectors that are looked up."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.table(ids))


def test_padding_is_no_position():
    ids = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]])
    call = KeywordCall(["ids"], weights="mask")
    found = _measured(Tagger(), [{"ids": ids, "mask": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])}], call=call)

    reached = found.sites["head"].reached
    assert reached.positions == 2.5
    assert reached.vectors == 5
    assert reached.spread
    assert found.inputs is None


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(3, 3)

    def forward(self, x):
        return self.f(self.f(x).tanh())


def test_all_calls_of_a_layer_count():
    reached = _measured(Twice(), [torch.rand(10, 3)]).sites["f"].reached

    assert reached.positions == 2
    assert reached.vectors == 20


class Rectified(nn.Module):
    """A feature of either sign takes another way through the ReLU."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 12, bias=False), nn.Linear(12, 4, bias=False)

    def forward(self, x):
        return self.down(self.up(x).relu())


def test_a_site_has_no_more_features_than_the_network_is_given():
    data = sparse(4, value_min=-1.0, merge_empty=False)
    found = _measured(Rectified(), [data.train_batch(index) for index in range(4)])

    assert found.inputs.directions == found.sites["up"].reached.directions == 4
    assert found.sites["down"].reached.directions >= 8  # two for each feature, and single neurons
    assert found.features_of("down") == max(4, round(found.sites["down"].reached.dimension))


def test_only_so_many_batches_are_looked_at():
    taken = []

    def batches():
        while True:
            taken.append(1)
            yield torch.zeros(4, 6) + torch.eye(6)[:4]

    _measured(Squeezed(), batches())
    assert 1 < len(taken) <= 17


def test_no_batches_and_sites_without_effect_are_refused():
    with pytest.raises(UsageError, match="no training batches"):
        _measured(Squeezed(), [])
    silent = Squeezed()
    nn.init.zeros_(silent.out.weight)
    with pytest.raises(UsageError, match="ablating all of them does not change the output"):
        _measured(silent, [torch.rand(5, 6)])
    with pytest.raises(UsageError, match="ablating all sites changes the output by nan; look at the data"):
        _measured(Squeezed(), [torch.full((5, 6), float("nan"))])


def test_equal_weights_are_found_as_they_are_and_transposed():
    target = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(5)))
    target[1].weight = target[0].weight
    with torch.no_grad():
        target[2].weight.copy_(target[0].weight.T)
        target[4].weight.copy_(target[3].weight)
    sites = DecomposedModel(target, {"*": 1}).wrapping.sites

    assert equal_weights(sites) == ({"1": "0"}, {"2": "0", "4": "3"})


def test_zeros_are_not_taken_for_one_weight():
    target = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    for layer in target:
        nn.init.zeros_(layer.weight)

    assert equal_weights(DecomposedModel(target, {"*": 1}).wrapping.sites) == ({}, {})
