"""A stream kept apart into coefficients and directions equals the stream written out."""

import pytest
import torch

from spd_lightning.model.factored import Factored
from tests.comparison import assert_same_with_gradients


@pytest.fixture(params=[(4,), (2, 3)], ids=["batch", "batch-position"])
def leading(request):
    return request.param


def _pairs(leading):
    """Coefficients and directions of two terms on a stream of width 6."""
    sizes = (3, 5)
    coefficients = [torch.randn(*leading, size, dtype=torch.float64, requires_grad=True) for size in sizes]
    directions = [torch.randn(size, 6, dtype=torch.float64, requires_grad=True) for size in sizes]
    return list(zip(coefficients, directions, strict=True))


def _dense(pairs):
    return sum(coefficients @ directions for coefficients, directions in pairs)


def _leaves(pairs):
    return [tensor for pair in pairs for tensor in pair]


def test_written_out(leading):
    pairs = _pairs(leading)
    assert_same_with_gradients(Factored(pairs, {}).dense(), _dense(pairs), _leaves(pairs), 1e-12)


def test_a_sum_of_streams_is_read_as_one(leading):
    pairs, products = _pairs(leading), {}
    read = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    stream = Factored(pairs[:1], products) + Factored(pairs[1:], products)
    assert_same_with_gradients(stream @ read, _dense(pairs) @ read, [*_leaves(pairs), read], 1e-12)


def test_scaled_by_example(leading):
    pairs, factor = _pairs(leading), torch.rand(leading, dtype=torch.float64, requires_grad=True)
    scaled = Factored(pairs, {}).scaled(factor)
    leaves = [*_leaves(pairs), factor]
    assert_same_with_gradients(scaled.dense(), factor[..., None] * _dense(pairs), leaves, 1e-12)
    where = torch.rand(leading) < 0.5
    where.view(-1)[:2] = torch.tensor([True, False])
    chosen = Factored(pairs, {}).scaled(where) + Factored(pairs, {}).scaled(factor).scaled(~where)
    expected = torch.where(where[..., None], _dense(pairs), factor[..., None] * _dense(pairs))
    assert_same_with_gradients(chosen.dense(), expected, leaves, 1e-12)


def test_adding_and_scaling_leave_the_operands_alone(leading):
    pairs = _pairs(leading)
    stream = Factored(pairs[:1], {})
    before = stream.dense()
    stream + Factored(pairs[1:], {})
    stream.scaled(torch.zeros(leading, dtype=torch.float64))
    assert torch.equal(stream.dense(), before)


def test_a_product_of_directions_is_made_once(leading):
    (pair, _), products = _pairs(leading), {}
    read = torch.randn(6, 7, dtype=torch.float64)
    for _ in range(3):
        Factored([pair], products) @ read
        Factored([(2 * pair[0], pair[1])], products) @ read.T.T
    assert len(products) == 1


def test_matrices_that_begin_at_the_same_place_are_told_apart():
    square, coefficients = torch.randn(4, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    products = {}
    for directions in (square, square.T):
        for read in (square, square.T, square[:, :2], square[:, :1]):
            stream = Factored([(coefficients, directions)], products)
            torch.testing.assert_close(stream @ read, coefficients @ directions @ read)


def test_a_product_made_without_gradient_does_not_serve_where_one_is_wanted(leading):
    pairs, products = _pairs(leading), {}
    read = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        Factored(pairs, products) @ read
    assert_same_with_gradients(Factored(pairs, products) @ read, _dense(pairs) @ read, [*_leaves(pairs), read], 1e-12)


def test_two_parameters_that_share_their_numbers_get_a_gradient_each():
    coefficients, one = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    first, second = torch.nn.Parameter(one), torch.nn.Parameter(one)
    read, products = torch.randn(6, 2, dtype=torch.float64), {}
    total = sum((Factored([(coefficients, parameter)], products) @ read).sum() for parameter in (first, second))
    gradients = torch.autograd.grad(total, [first, second], materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(*gradients)
