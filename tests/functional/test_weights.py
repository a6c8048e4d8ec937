"""What positions weigh, for tensors of any leading dimensions; the numbers are worked out by hand."""

import pytest
import torch
from torch import Tensor

from spd_lightning.functional.weights import EVEN, Weights

PADDING = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
"""Three rows of 2, 1 and 3 tokens."""
EXACT = PADDING.double()
"""Counts are weighed in double precision, and rounded where they are used."""


def _of(weights: Weights, *leading: int) -> Tensor:
    found = weights.of(torch.Size(leading))
    assert found is not None
    assert found.shape == leading
    return found


def test_even_weights_are_a_plain_mean():
    assert EVEN.of(torch.Size([3, 2])) is None
    assert EVEN.counted is None
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert EVEN.mean(values).item() == 3


def test_equal_dimensions():
    assert torch.equal(_of(Weights(PADDING), 3, 3), EXACT / 6)
    assert torch.equal(_of(Weights(torch.tensor([1.0, 3.0])), 2), torch.tensor([0.25, 0.75]))
    assert torch.equal(Weights(PADDING).raw(torch.Size([3, 3])), EXACT)


def test_of_more_dimensions_a_weight_is_divided_evenly():
    weights = Weights(torch.tensor([1.0, 3.0]))
    assert weights.raw(torch.Size([2, 4])).tolist() == [[0.25] * 4, [0.75] * 4]
    assert _of(weights, 2, 4).tolist() == [[1 / 16] * 4, [3 / 16] * 4]
    assert _of(weights, 2, 2, 2).tolist() == [[[1 / 16] * 2] * 2, [[3 / 16] * 2] * 2]
    assert torch.equal(_of(Weights(PADDING), 3, 3, 2), (EXACT / 12)[..., None].expand(3, 3, 2))


def test_of_fewer_dimensions_a_row_counts_if_any_of_its_positions_does():
    assert _of(Weights(PADDING), 3).tolist() == pytest.approx([1 / 3] * 3)
    padded = torch.cat([PADDING, torch.zeros(1, 3, dtype=torch.long)])
    assert _of(Weights(padded), 4).tolist() == pytest.approx([1 / 3] * 3 + [0])
    uneven = Weights(torch.tensor([[0.5, 2.0], [1.0, 0.0]]))
    assert uneven.raw(torch.Size([2])).tolist() == [2, 1]
    assert uneven.raw(torch.Size([])).item() == 2


def test_flattened_positions():
    assert torch.equal(_of(Weights(PADDING), 9), EXACT.flatten() / 6)
    assert torch.equal(_of(Weights(torch.arange(6.0)), 2, 3), torch.arange(6.0).reshape(2, 3) / 15)


@pytest.mark.parametrize("leading", [(4,), (2, 3), (3, 2), (4, 3, 2)])
def test_weights_that_do_not_fit(leading):
    with pytest.raises(ValueError, match=r"weights of shape \[3, 3\] do not fit positions of shape \["):
        Weights(PADDING).of(torch.Size(leading))


def test_normalised_weights_stay_as_they_are():
    values = torch.tensor([0.1, 0.2])
    assert torch.equal(_of(Weights(values, normalised=True), 2), values)
    assert torch.equal(_of(Weights(values, normalised=True), 2, 2), values[:, None].expand(2, 2) / 2)


def test_means_by_hand():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0], [2.0, 4.0, 6.0]])
    assert Weights(PADDING).mean(values).item() == pytest.approx((1 + 3 + 5 + 2 + 4 + 6) / 6)
    pooled = torch.tensor([1.0, 2.0, 6.0])
    assert Weights(PADDING).mean(pooled).item() == pytest.approx(3)
    pixels = torch.stack([values, 3 * values], -1)
    assert Weights(PADDING).mean(pixels).item() == pytest.approx(2 * 21 / 6)


def test_means_have_a_gradient_and_keep_the_type():
    values = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    mean = Weights(PADDING).mean(values)
    assert mean.dtype == torch.float64
    mean.backward()
    torch.testing.assert_close(values.grad, PADDING.double() / 6, rtol=1e-6, atol=1e-6)


def test_weights_are_made_once_for_each_shape():
    weights = Weights(PADDING)
    assert _of(weights, 3, 3) is _of(weights, 3, 3)
    assert _of(weights, 3) is not _of(weights, 3, 3)


def test_what_counts():
    counted = Weights(PADDING).counted
    assert counted is not None
    assert torch.equal(counted, PADDING.bool())
    assert Weights(torch.tensor([0.0, 0.25])).counted.tolist() == [False, True]


def test_gathered_over_two_processes_by_hand():
    """Another process holds weights that sum to 10 by position and 5 by row: sums of 6 and 3 here, means 8 and 4."""
    asked, others = [], iter([10.0, 5.0])

    def total(own: Tensor) -> Tensor:
        asked.append(own.item())
        return (own + next(others)) / 2

    gathered = Weights(PADDING).gathered(total)
    torch.testing.assert_close(_of(gathered, 3, 3), EXACT / 8)
    torch.testing.assert_close(_of(gathered, 3), torch.full((3,), 1 / 4, dtype=torch.float64))
    assert torch.equal(gathered.values, PADDING)
    assert asked == [6, 3]


def test_processes_are_asked_once_for_each_number_of_dimensions():
    asked = []
    gathered = Weights(torch.tensor([1.0, 3.0])).gathered(lambda own: asked.append(own.item()) or own)
    for leading in ((2,), (2, 5), (2, 7), (2,), (2, 5)):
        torch.testing.assert_close(_of(gathered, *leading), _of(Weights(torch.tensor([1.0, 3.0])), *leading))
    assert asked == [4, 4]


def test_several_processes_weigh_as_one_does():
    """Means over processes of weighted sums are the mean over the whole batch, for every kind of leading dimensions."""
    whole, cuts = torch.rand(6, 4).round(decimals=1), ((0, 1), (1, 4), (4, 6))
    for shape in ((6, 4), (6,), (6, 4, 2)):
        values, shares = torch.rand(shape), [Weights(whole[first:last]) for first, last in cuts]
        sums = [
            share.raw(torch.Size((last - first, *shape[1:]))).sum()
            for share, (first, last) in zip(shares, cuts, strict=True)
        ]
        average = torch.stack(sums).mean()
        means = [
            share.gathered(lambda _, average=average: average).mean(values[first:last])
            for share, (first, last) in zip(shares, cuts, strict=True)
        ]
        torch.testing.assert_close(torch.stack(means).mean(), Weights(whole).mean(values))


def test_what_positions_weigh_beside_those_of_other_batches():
    values = torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]])

    assert EVEN.mass(torch.Size([2, 3])) == 6
    assert Weights(values).mass(torch.Size([2, 3])) == 2.5
    assert Weights(values).mass(torch.Size([2])) == 1.5  # a row counts as its best position
    assert Weights(values / 2.5, normalised=True).mass(torch.Size([2, 3])) == 1
    assert Weights(values).gathered(lambda total: total / 2).mass(torch.Size([2, 3])) == 1
