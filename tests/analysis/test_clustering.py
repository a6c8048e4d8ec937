"""Clustering by description length: against the length computed from scratch at every merger, and planted groups."""

from itertools import combinations
from math import log2

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.analysis import cluster
from spd_lightning.analysis.clustering import agreement_with
from spd_lightning.analysis.firings import Firings
from spd_lightning.functional import adjusted_rand_index


def firings_of(table, counts=None):
    """Firings of a boolean table ``[units, C]``."""
    units, components = table.nonzero(as_tuple=True)
    order = torch.argsort(components * len(table) + units)
    counts = counts or {"site": table.shape[1]}
    return Firings(counts, len(table), components[order].int(), units[order].int())


def _length(table, groups, alpha):
    """Bits of a grouping, group after group."""
    often = [int(table[:, list(group)].any(1).sum()) for group in groups]
    return sum(s * (log2(len(groups)) + alpha * len(group)) for s, group in zip(often, groups, strict=True))


def _merged(groups, one, other):
    return [group for group in groups if group not in (one, other)] + [one | other]


def _replayed(table, found, alpha):
    """Groups before every merger, with the two that were merged."""
    groups = [frozenset([c]) for c in range(table.shape[1]) if table[:, c].any()]
    for one, other in found.merges.tolist():
        pair = [next(group for group in groups if member in group) for member in (one, other)]
        yield groups, pair
        groups = _merged(groups, *pair)
    yield groups, None


CASES = [(60, 9, 0.3, 1.0), (200, 14, 0.1, 0.937), (40, 12, 0.05, 0.2), (30, 6, 0.8, 0.0), (100, 10, 0.2, 3.1)]


def _drawn(units, components, share, seed):
    """Components that overlap in part, some of them dead."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.rand(units, components // 2, generator=generator) < share
    reads = torch.rand(components // 2, components, generator=generator) < 0.3
    own = torch.rand(units, components, generator=generator) < share / 4
    return ((causes.float() @ reads.float()) > 0) | own


@pytest.mark.parametrize(("units", "components", "share", "alpha"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_every_merger_is_the_one_that_shortens_the_description_most(units, components, share, alpha, seed):
    table = _drawn(units, components, share, seed)
    found = cluster(firings_of(table), alpha)
    lengths = []
    for groups, pair in _replayed(table, found, alpha):
        now = _length(table, groups, alpha)
        lengths.append(now)
        changes = [_length(table, _merged(groups, *other), alpha) - now for other in combinations(groups, 2)]
        if pair is None:
            assert not changes or min(changes) >= -1e-9
            assert found.after == pytest.approx(now)
        else:
            change = _length(table, _merged(groups, *pair), alpha) - now
            assert change == pytest.approx(min(changes), abs=1e-6)
            assert found.changes[len(lengths) - 1].item() == pytest.approx(change, abs=1e-4)
    assert found.before == pytest.approx(lengths[0])
    assert {frozenset(group["site"]) for group in found.grouping.groups} == set(groups)
    parts = [table[:, group["site"]] for group in found.grouping.groups]
    assert found.firings.tolist() == [int(part.any(1).sum()) for part in parts]
    coherence = [part[part.any(1)].float().mean().item() for part in parts]
    assert found.coherence.tolist() == pytest.approx(coherence)


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_draws_among_what_shortens_the_description(seed):
    table = _drawn(150, 12, 0.2, 0)
    found, again = (cluster(firings_of(table), seed=seed) for _ in range(2))
    assert torch.equal(found.merges, again.merges)
    for groups, pair in _replayed(table, found, 1.0):
        if pair is not None:
            assert _length(table, _merged(groups, *pair), 1.0) < _length(table, groups, 1.0)
    others = [cluster(firings_of(table), seed=other).merges.tolist() for other in range(4)]
    assert any(other != found.merges.tolist() for other in others)


def _planted(groups, members, units, share, dropped, seed=0):
    """Groups that are active at random; members that miss some of it."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(units, groups, generator=generator) < share
    table = active.repeat_interleave(members, 1)
    return table & (torch.rand(table.shape, generator=generator) >= dropped)


@pytest.mark.parametrize("dropped", [0.0, 0.1])
def test_planted_groups_are_found_whatever_the_order(dropped):
    table = _planted(groups=12, members=5, units=2000, share=0.03, dropped=dropped)
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    truth = torch.arange(12).repeat_interleave(5)[shuffled]
    found = [cluster(firings_of(table[:, shuffled], {"a": 20, "b": 40}), seed=seed) for seed in (None, 0, 1)]
    assert all(adjusted_rand_index(one.labels, truth) == 1 for one in found)
    assert agreement_with(found[0], found[1:]) == [1, 1]
    assert len(found[0].firings) == 12
    assert list(found[0].grouping.labels) == ["a", "b"]


def test_components_of_few_firings_are_left_out():
    table = torch.zeros(20, 4, dtype=torch.bool)
    table[:5, :2], table[7, 2] = True, True
    assert cluster(firings_of(table)).labels.tolist()[3] == -1
    found = cluster(firings_of(table), fewest=2)
    assert found.labels.tolist() == [0, 0, -1, -1]
    assert found.coherence.tolist() == [1]
    assert found.grouping.members("site", 2) == {"site": [2]}


def test_two_that_always_fire_together_are_one():
    table = torch.zeros(9, 2, dtype=torch.bool)
    table[2:5] = True
    found = cluster(firings_of(table))
    assert (found.labels.tolist(), found.firings.tolist()) == ([0, 0], [3])
    assert (found.before, found.after) == (2 * 3 * (1 + 1), 3 * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "cluster: alpha must be at least 0, got -1.0"),
        ({"alpha": float("nan")}, "cluster: alpha must be a finite number"),
        ({"fewest": 0}, "cluster: fewest must be at least 1"),
        ({"fewest": 6}, "cluster: no component is important on 6 or more of the 5 units"),
    ],
)
def test_what_cannot_be_clustered_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        cluster(firings_of(torch.ones(5, 3, dtype=torch.bool)), **options)
