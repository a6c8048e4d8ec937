"""Tokens that components go with: against counts made one by one."""

from collections import Counter
from math import log

import pytest
import torch

from spd_lightning.analysis import TokenCounts


def _slowly(fires, tokens):
    """Firings, best token, precision and recall of every component, by plain loops."""
    found = []
    for component in fires.T.tolist():
        on = Counter(token for token, fired in zip(tokens.tolist(), component, strict=True) if fired)
        whole, firings = Counter(tokens.tolist()), sum(on.values())
        scored = {token: 2 * count / (firings + whole[token]) for token, count in on.items()}
        best = min((token for token in scored if scored[token] == max(scored.values())), default=-1)
        shares = (on[best] / firings, on[best] / whole[best]) if on else (0.0, 0.0)
        chance = firings / len(tokens) * whole[best] / len(tokens) if on else 1.0
        shares = (*shares, log(on[best] / len(tokens) / chance) if on else 0.0)
        found.append((firings, best, *shares))
    return [list(column) for column in zip(*found, strict=True)]


def _drawn(positions, components, vocabulary, share):
    return torch.rand(positions, components) < share, torch.randint(vocabulary, (positions,))


@pytest.mark.parametrize("sizes", [(50, 7, 5), (200, 3, 90), (1, 4, 2)])
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_readings_are_those_of_plain_counting(sizes, share):
    fires, tokens = _drawn(*sizes, share)
    counts = TokenCounts(sizes[1])
    for part in torch.arange(sizes[0]).split(17):
        counts.update(fires[part], tokens[part])
    reading, (firings, best, precision, recall, pmi) = counts.reading(), _slowly(fires, tokens)
    assert (reading.firings.tolist(), reading.tokens.tolist()) == (firings, best)
    torch.testing.assert_close(reading.precision, torch.tensor(precision))
    torch.testing.assert_close(reading.recall, torch.tensor(recall))
    torch.testing.assert_close(reading.pmi, torch.tensor(pmi))
    assert counts.positions == sizes[0]


def test_counts_of_two_add_up_to_those_of_one():
    fires, tokens = _drawn(120, 6, 20, 0.2)
    whole, parts = TokenCounts(6), (TokenCounts(6), TokenCounts(6))
    whole.update(fires, tokens)
    for part, rows in zip(parts, (slice(40), slice(40, None)), strict=True):
        part.update(fires[rows], tokens[rows])
    parts[0].add(parts[1])
    assert parts[0].positions == whole.positions
    for one, other in zip(vars(parts[0].reading()).values(), vars(whole.reading()).values(), strict=True):
        assert torch.equal(one, other)


def test_what_never_fires_goes_with_no_token():
    counts = TokenCounts(3)
    assert counts.reading().tokens.tolist() == [-1, -1, -1]
    counts.update(torch.tensor([[True, False, False]]), torch.tensor([4]))
    reading = counts.reading()
    assert reading.tokens.tolist() == [4, -1, -1]
    assert reading.f1.tolist() == [1, 0, 0]


def test_memory_grows_with_pairs_alone():
    counts = TokenCounts(1_000_000)
    fires = torch.zeros(2, 1_000_000, dtype=torch.bool)
    fires[0, 999_999] = True
    counts.update(fires, torch.tensor([2**31, 7]))
    assert counts.reading().tokens[999_999] == 2**31


def test_the_best_tokens_come_in_their_order():
    fires, tokens = _drawn(200, 4, 6, 0.3)
    counts = TokenCounts(4)
    counts.update(fires, tokens)
    for component, fired in enumerate(fires.T):
        on, whole = Counter(tokens[fired].tolist()), Counter(tokens.tolist())
        order = sorted(on, key=lambda token: (-2 * on[token] / (int(fired.sum()) + whole[token]), token))
        expected = (order + [-1] * 8)[:8]
        assert [int(reading.tokens[component]) for reading in counts.best(8)] == expected


def test_counts_that_were_kept_go_on():
    fires, tokens = _drawn(90, 5, 9, 0.3)
    whole, part = TokenCounts(5), TokenCounts(5)
    whole.update(fires, tokens)
    part.update(fires[:50], tokens[:50])
    again = TokenCounts.of(5, part.tensors())
    again.update(fires[50:], tokens[50:])
    assert again.positions == 90
    for name, tensor in whole.tensors().items():
        assert torch.equal(again.tensors()[name], tensor)
