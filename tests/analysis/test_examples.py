"""Single examples of batches, and several as one batch."""

import torch

from spd_lightning.analysis.commands.examples import picked
from spd_lightning.analysis.examples import examples_of


def _batch(first, rows):
    return {"x": torch.arange(first, first + rows)[:, None], "classes": torch.arange(3), "name": "numbers"}


def test_what_has_no_row_for_each_example_stays_whole():
    one, *_ = examples_of([_batch(0, 4)])
    assert one["x"].tolist() == [[0]]
    assert one["classes"].tolist() == [0, 1, 2]
    several = picked([_batch(0, 4)], [3, 1])
    assert several["x"].tolist() == [[3], [1]]
    assert several["classes"].tolist() == [0, 1, 2]
    assert several["name"] == "numbers"


def test_a_short_last_batch_splits_nothing_that_others_hold_whole():
    found = picked([_batch(0, 4), _batch(4, 3)], [2, 5, 2])
    assert found["x"].tolist() == [[2], [5], [2]]
    assert found["classes"].tolist() == [0, 1, 2]
    assert picked([_batch(0, 4), _batch(4, 3)], [5, 2])["x"].tolist() == [[5], [2]]
