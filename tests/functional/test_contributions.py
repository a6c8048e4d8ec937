"""Neuron contributions by hand."""

import math

import numpy as np
import pytest
import torch

from spd_lightning.functional import component_contributions, contributions, neuron_contributions, pearson

EMBEDDING = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
READOUT = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
READING = torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.0, 5.0]])
WRITING = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.5]])


def test_a_contribution_is_what_a_neuron_reads_times_what_it_writes():
    # feature 0 is read as 1, -1, 0 and its output receives 2, 1, 0; feature 1 is read as 1.4, -0.6, 4, receives 0, 6, 1
    expected = torch.tensor([[2.0, -1.0, 0.0], [0.0, -3.6, 4.0]])

    torch.testing.assert_close(neuron_contributions(READOUT, EMBEDDING, READING, WRITING), expected)


def test_the_component_with_the_largest_contribution_stands_for_a_feature():
    read = torch.tensor([[1.0, 0.0, -3.0], [0.0, 1.0, 0.0]])
    write = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 4.0], [1.0, 1.0, 0.0]])
    # feature 0 receives 2, 1, 0 and is read as 1, 0, -3: components give (2, 0, 0), (0, 0, 0), (-6, -3, 0)
    # feature 1 receives 0, 6, 1 and is read as 0.6, 0.8, -1.8: (0, 0, 0.6), (0, 4.8, 3.2), (0, -10.8, 0)
    found, chosen = component_contributions(READOUT, EMBEDDING, read, write, WRITING)

    assert chosen.tolist() == [0, 1]  # signs count: the larger but negative contributions of component 2 do not win
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, 0.0], [0.0, 4.8, 3.2]]))


def test_single_components_that_sum_to_the_target_give_its_contributions():
    torch.manual_seed(1)
    embedding, reading, writing = torch.eye(5), torch.rand(3, 5), torch.rand(5, 3)

    found, chosen = component_contributions(embedding, embedding, torch.eye(5), reading.T, writing)

    assert chosen.tolist() == list(range(5))
    torch.testing.assert_close(found, neuron_contributions(embedding, embedding, reading, writing))


@pytest.mark.parametrize("numbers", [1, 50, 10**6])
def test_pieces_make_the_same_whole(numbers, monkeypatch):
    torch.manual_seed(2)
    readout, embedding, read, write, writing = (
        torch.randn(shape) for shape in ((7, 6), (7, 6), (6, 4), (4, 3), (6, 3))
    )
    every = torch.einsum("id,dj,ie,ec,cj->icj", readout, writing, embedding, read, write)
    best = every.amax(-1).argmax(-1)
    monkeypatch.setattr(contributions, "CHUNK", numbers)

    found, chosen = component_contributions(readout, embedding, read, write, writing)

    assert torch.equal(chosen, best)
    assert len(set(best.tolist())) > 1
    torch.testing.assert_close(found, every[torch.arange(7), best])


def test_correlation_by_hand():
    # deviations (-1, 0, 1) and (-4, -1, 5) / 3: 3 / sqrt(2 * 42 / 9)
    assert pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])) == pytest.approx(3 / math.sqrt(84 / 9))


def test_correlation_runs_over_all_entries_and_ignores_scale_and_shift():
    a, b = torch.randn(2, 5, 4)

    assert pearson(a, b) == pytest.approx(np.corrcoef(a.flatten(), b.flatten())[0, 1], abs=1e-12)
    assert pearson(a, 3 * a.double() - 1) == pytest.approx(1, abs=1e-6)
    assert pearson(a, -0.1 * a) == pytest.approx(-1, abs=1e-6)
    assert -1 <= pearson(a, -a) <= pearson(a, a) <= 1


@pytest.mark.parametrize(
    "other",
    [torch.full((1000,), 0.1), torch.zeros(1000), torch.full((1000,), float("nan"))],
    ids=["constant", "zero", "nan"],
)
def test_correlation_with_what_does_not_vary_is_not_a_number(other):
    assert math.isnan(pearson(torch.randn(1000), other))
    assert math.isnan(pearson(other, torch.randn(1000)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_entry_that_is_not_finite_spoils_the_correlation(value):
    a = torch.randn(10)
    b = a.clone()
    b[3] = value

    assert math.isnan(pearson(a, b))


def test_correlation_of_nothing_is_not_a_number():
    assert math.isnan(pearson(torch.zeros(0, 3), torch.zeros(0, 3)))


def test_correlation_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"^a and b must have the same shape, got \[2, 3\] and \[3, 2\]$"):
        pearson(torch.zeros(2, 3), torch.zeros(3, 2))
