"""Sequences of names, held against what they are said to be."""

from collections import Counter

import pytest
import torch

from spd_lightning import DatasetBatches, UsageError
from spd_lightning.data import NameSequences


def test_the_name_that_stands_once_is_the_answer():
    data = NameSequences(names=5, size=400)

    for index in range(len(data)):
        tokens, answer = data[index]
        first, second, third, end = tokens.tolist()
        assert first != second
        assert third in (first, second)
        assert end == 5
        assert Counter([first, second, third])[answer] == 1


def test_all_sequences_are_drawn_about_equally_often():
    counts = Counter(map(tuple, NameSequences(names=4, size=4800).tokens.tolist()))

    assert len(counts) == 2 * 4 * 3
    assert 130 < min(counts.values()) <= max(counts.values()) < 270  # 200 each, give or take five standard deviations


def test_names_are_drawn_once_and_by_split():
    one, other = NameSequences(size=50), NameSequences(size=50, split="test")

    assert torch.equal(one.tokens, NameSequences(size=50).tokens)
    assert not torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.tokens, NameSequences(size=50, seed=1).tokens)
    tokens, answers = next(iter(DatasetBatches(train=one, batch_size=10).train_dataloader()))
    assert tokens.shape == (10, 4)
    assert answers.shape == (10,)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": 1}, "data: names must be at least 2, got 1"),
        ({"names": 2.5}, "data: names must be a whole number, got 2.5"),
        ({"size": 0}, "data: size must be at least 1, got 0"),
        ({"split": "val"}, "data: split must be one of .*, got 'val'"),
        ({"seed": "x"}, "data: seed must be a whole number, got 'x'"),
    ],
)
def test_wrong_names_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        NameSequences(**settings)
