"""The adjusted Rand index against pairs counted one by one."""

from itertools import combinations

import pytest
import torch

from spd_lightning.functional import adjusted_rand_index


def _slowly(one, other):
    pairs = list(combinations(range(len(one)), 2))
    first, second = ([part[i] == part[j] for i, j in pairs] for part in (one.tolist(), other.tolist()))
    both = sum(a and b for a, b in zip(first, second, strict=True))
    expected = sum(first) * sum(second) / len(pairs)
    return (both - expected) / ((sum(first) + sum(second)) / 2 - expected)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_counted(seed):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randint(4, (2, 30), generator=generator)
    mixed = torch.where(torch.rand(30, generator=generator) < 0.5, one, other)
    assert adjusted_rand_index(one, mixed) == pytest.approx(_slowly(one, mixed))


def test_names_of_groups_do_not_matter():
    one = torch.tensor([0, 0, 1, 1, 2])
    assert adjusted_rand_index(one, torch.tensor([7, 7, -3, -3, 0])) == 1


def test_random_groupings_agree_by_chance():
    one, other = torch.randint(20, (2, 5000), generator=torch.Generator().manual_seed(0))
    assert abs(adjusted_rand_index(one, other)) < 0.01


@pytest.mark.parametrize("one", [[0, 1, 2], [0, 0, 0], [0], []])
def test_nothing_to_disagree_on_is_agreement(one):
    assert adjusted_rand_index(torch.tensor(one), torch.tensor(one)) == 1


def test_other_things_are_refused():
    with pytest.raises(ValueError, match="must be of the same things"):
        adjusted_rand_index(torch.zeros(3), torch.zeros(4))
