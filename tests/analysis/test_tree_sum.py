"""Sums whose order is that of one tree, whoever adds up which part."""

import math

import pytest
import torch

from spd_lightning.analysis.tree_sum import TreeSum


def _terms(count):
    """Numbers of all sizes, whose sum depends on the order."""
    generator = torch.Generator().manual_seed(count)
    powers = torch.randint(-20, 20, (count, 3), generator=generator)
    return torch.randn(count, 3, dtype=torch.double, generator=generator) * 2.0**powers


def _summed(terms, first=0):
    found = TreeSum()
    for number, term in enumerate(terms, first):
        found.add(number, term)
    return found


def test_the_order_is_that_of_the_tree():
    a, b, c, d, e, f, g = _terms(7)
    assert torch.equal(_summed([a, b, c, d, e, f, g]).total(), (g + (e + f)) + ((a + b) + (c + d)))


@pytest.mark.parametrize("count", [1, 2, 13, 32])
def test_all_ways_to_share_the_terms_give_the_same_bits(count):
    terms = _terms(count)
    whole = _summed(terms)
    assert whole.total().tolist() == pytest.approx([math.fsum(column) for column in terms.T.tolist()], rel=1e-12)
    for cut in range(count + 1):
        for later in range(cut, count + 1):
            found = TreeSum()
            for first, stop in ((0, cut), (cut, later), (later, count)):
                found.join(_summed(terms[first:stop], first))
            assert torch.equal(found.total(), whole.total())
            assert {name: t.tolist() for name, t in found.tensors().items()} == {
                name: t.tolist() for name, t in whole.tensors().items()
            }


def test_few_sums_wait():
    assert len(_summed(torch.ones(1000)).tensors()["terms"]) == 6  # 1000 is a sum of six powers of two
    assert len(_summed(torch.ones(1000), 1).tensors()["terms"]) <= 20


def test_one_that_was_kept_goes_on():
    terms = _terms(11)
    again = TreeSum.of(_summed(terms[:6]).tensors())
    for number in range(6, 11):
        again.add(number, terms[number])
    assert torch.equal(again.total(), _summed(terms).total())
