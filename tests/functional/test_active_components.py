import torch

from spd_lightning.functional import ALIVE_THRESHOLD, active_counts, alive_components

IMPORTANCE = torch.tensor([[[0.9, 0.0, 0.1], [0.2, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.11, 0.05, 0.0]]])


def test_counts_per_example_and_position():
    assert ALIVE_THRESHOLD == 0.1
    assert active_counts(IMPORTANCE).tolist() == [[1, 1], [0, 1]]
    assert active_counts(IMPORTANCE, 0.01).tolist() == [[2, 1], [0, 2]]


def test_alive_reduces_every_leading_dimension():
    assert alive_components(IMPORTANCE).tolist() == [True, False, False]
    assert alive_components(IMPORTANCE, 0.01).tolist() == [True, True, True]
    flat = alive_components(IMPORTANCE.flatten(0, 1), 0.01)
    assert flat.tolist() == [True, True, True]
    assert alive_components(IMPORTANCE[0, 0]).tolist() == [True, False, False]


def test_nothing_seen_is_nothing_alive():
    assert alive_components(torch.zeros(0, 3)).tolist() == [False, False, False]
