"""All pairs of numbers as batches."""

from itertools import islice

import pytest
import torch

from spd_lightning import ModularPairs, UsageError
from spd_lightning.functional import number_pairs


def test_every_step_sees_all_pairs_unless_told_otherwise():
    data = ModularPairs(5, seed=0)

    (pairs, sums), (again, _) = islice(data.train_dataloader(), 2)

    assert sorted(map(tuple, pairs.tolist())) == [tuple(pair) for pair in number_pairs(5)[0].tolist()]
    assert torch.equal(sums, pairs.sum(1) % 5)
    assert not torch.equal(pairs, again)
    assert len(next(iter(ModularPairs(5, batch_size=4, seed=0).train_dataloader()))[0]) == 4


@pytest.mark.parametrize("stage", ["val", "test", "predict"])
def test_evaluation_sees_the_table_in_order(stage):
    batches = list(getattr(ModularPairs(5, val_batch_size=10), f"{stage}_dataloader")())

    assert [len(sums) for _, sums in batches] == [8, 8, 9]
    assert torch.equal(torch.cat([pairs for pairs, _ in batches]), number_pairs(5)[0])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"modulus": 9}, "data: modulus must be an odd prime such as 23 or 47, got 9"),
        ({"modulus": "23"}, "data: modulus must be a whole number"),
        ({"modulus": 5, "batch_size": 26}, "data: batch_size is 26, but train holds 25"),
        ({"modulus": 5, "batch_size": 0}, "data: batch_size must be at least 1"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        ModularPairs(**arguments)
