"""One weighted row stands for all empty ones, and no mean can tell."""

from itertools import product

import pytest
import torch

from spd_lightning.functional import (
    distance,
    importance_minimality,
    keyed_generator,
    mean_over_examples,
    merged_rows,
    merged_sparse_features,
    sparse_features,
)
from tests.comparison import assert_same_with_gradients

RANGE = (-1.0, 3.0)


def _draw(size, n_features, probability, key=0):
    return merged_sparse_features(size, n_features, probability, RANGE, keyed_generator("merged", key))


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ((16, 5, 0.05), 5),  # 16 (1 - 0.95^5) = 3.6: four rows and the empty one
        ((2048, 100, 0.01), 1299),  # 2048 (1 - 0.99^100) = 1298.4
        ((4, 1, 0.5), 3),
        ((3, 1, 0.5), 0),  # one and a half empty rows
        ((1, 5, 0.05), 0),
        ((10, 5, 0.001), 0),  # a row with a feature is not to be expected
        ((1024, 5, 1.0), 0),
        ((1024, 100, 0.1), 0),  # hardly any row is empty
    ],
)
def test_number_of_rows_by_hand(arguments, rows):
    assert merged_rows(*arguments) == rows
    if rows:
        assert _draw(*arguments).x.shape == (rows, arguments[1])
    else:
        with pytest.raises(ValueError, match="has nothing to merge"):
            _draw(*arguments)


@pytest.mark.parametrize(("n_features", "probability"), [(1, 0.5), (5, 0.05), (100, 0.01), (3, 0.3)])
def test_only_the_last_row_is_empty(n_features, probability):
    for key in range(20):
        x, weights = _draw(500, n_features, probability, key)
        active = (x != 0).sum(1)
        assert (active[:-1] >= 1).all()
        assert active[-1] == 0
        assert weights.shape == active.shape
        assert weights.sum().item() == pytest.approx(1, abs=1e-5)
        assert weights[-1].item() == pytest.approx((1 - probability) ** n_features, rel=1e-5)
        assert (weights[:-1] == weights[0]).all()


@pytest.mark.parametrize(("n_features", "probability"), [(4, 0.3), (3, 0.05), (1, 0.4)])
def test_rows_have_the_distribution_of_those_that_are_not_empty(n_features, probability):
    x, _ = _draw(300_000, n_features, probability)
    active = x[:-1] != 0
    n = len(active)
    codes = (active * 2 ** torch.arange(n_features)).sum(1)
    counts = torch.bincount(codes, minlength=2**n_features).tolist()
    some = 1 - (1 - probability) ** n_features
    assert counts[0] == 0
    for pattern in list(product((0, 1), repeat=n_features))[1:]:
        on = sum(pattern)
        expected = probability**on * (1 - probability) ** (n_features - on) / some
        code = sum(bit * 2**index for index, bit in enumerate(pattern))
        assert counts[code] / n == pytest.approx(expected, abs=5 * (expected * (1 - expected) / n) ** 0.5 + 1e-12)


def test_values_are_uniform_whichever_feature_came_first():
    x, _ = _draw(200_000, 3, 0.3)
    for column in x.T:
        values = column[column != 0]
        assert values.min() >= -1
        assert values.max() < 3
        assert values.mean().item() == pytest.approx(1, abs=5 * 4 / (12 * len(values)) ** 0.5)
        assert values.var().item() == pytest.approx(16 / 12, rel=0.02)
    both = x[(x[:, 0] != 0) & (x[:, 1] != 0)]
    assert abs(torch.corrcoef(both[:, :2].T)[0, 1]) < 5 / len(both) ** 0.5


def test_the_same_generator_draws_the_same_rows():
    first, again, other = (_draw(64, 5, 0.05, key) for key in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)


STATISTICS = {
    "first moment": lambda x: x.sum(1),
    "product": lambda x: x[:, 0] * x[:, 1],
    "not zero at nothing": lambda x: (x.abs().sum(1) - 0.5).cos(),
    "how many are on": lambda x: (x != 0).sum(1).float().square(),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_weighted_means_have_the_same_expectation_and_no_larger_variance(name):
    statistic, draws = STATISTICS[name], 4000
    merged, plain = [], []
    for key in range(draws):
        batch = _draw(40, 3, 0.15, key)
        merged.append(mean_over_examples(statistic(batch.x), batch.weights))
        plain.append(mean_over_examples(statistic(sparse_features(40, 3, 0.15, RANGE, keyed_generator("plain", key)))))
    merged, plain = torch.stack(merged), torch.stack(plain)
    standard_error = ((merged.var() + plain.var()) / draws).sqrt()
    assert abs(merged.mean() - plain.mean()) < 4 * standard_error
    assert merged.var() < 1.1 * plain.var()


def test_the_share_of_empty_rows_no_longer_varies():
    means = []
    for key in range(50):
        batch = _draw(64, 5, 0.05, key)
        means.append(mean_over_examples((batch.x == 0).all(1).float(), batch.weights).item())
    assert max(means) - min(means) < 1e-6


@pytest.fixture
def batches():
    """Rows of which the last seven are alike, the same with one of them, and that batch's weights."""
    rows = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0] * 4 + [7.0], dtype=torch.float64) / 11
    return torch.cat([rows[:4], rows[4:].expand(7, 6)]), rows, weights


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_distances_weigh_rows(batches, kind):
    every, rows, weights = batches
    target = torch.randn(5, 6, dtype=torch.float64)
    expected = distance(kind, every, torch.cat([target[:4], target[4:].expand(7, 6)]))
    assert_same_with_gradients(distance(kind, rows, target, weights), expected, [rows], 1e-12)


@pytest.mark.parametrize("p", [0.9, 1.0, 2.0])
def test_importance_minimality_weighs_rows(batches, p):
    every, rows, weights = (part.abs() for part in batches)
    found = importance_minimality([rows, rows[:, :2]], p, weights=weights)
    assert_same_with_gradients(found, importance_minimality([every, every[:, :2]], p), [batches[1]], 1e-12)


def test_weights_reach_over_positions_too():
    values, weights = torch.rand(3, 4), torch.rand(3, 4)
    assert mean_over_examples(values, weights).item() == pytest.approx((values * weights).sum().item())
