"""Masks that are never stored equal masks that are."""

import importlib

import pytest
import torch

from spd_lightning.kernels import build, masked_chosen, masked_inner, row_uniforms
from tests.comparison import assert_same_with_gradients

SEED = 77
SHIFTS = pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])


def _written_out(inner, importance, shift, compiled):
    source = row_uniforms(inner.shape, SEED, inner, compiled)
    mask = importance + (1 - importance) * source
    return inner * (mask if shift is None else mask - shift[..., None])


def _check(inner, importance, shift, compiled, tolerance=1e-6):
    leaves = [inner.requires_grad_(), importance.requires_grad_()]
    found = masked_inner(inner, importance, shift, SEED, compiled)
    assert found.shape == inner.shape
    assert_same_with_gradients(found, _written_out(inner, importance, shift, compiled), leaves, tolerance)


@SHIFTS
@pytest.mark.parametrize("shape", [(7, 1), (7, 63), (7, 64), (7, 65), (3, 130), (2, 3, 5), (2, 3, 4, 70), (66,)])
def test_equals_masks_written_out(compiled, shape, shifted):
    shift = torch.rand(shape[:-1]) if shifted else None
    _check(torch.randn(shape), torch.rand(shape), shift, compiled)


@SHIFTS
@pytest.mark.parametrize("shape", [(7, 1), (7, 63), (7, 64), (7, 65), (3, 130), (2, 3, 5), (2, 3, 4, 70)])
def test_some_positions_get_the_numbers_of_the_whole(compiled, shape, shifted):
    inner, importance = torch.randn(shape, requires_grad=True), torch.rand(shape, requires_grad=True)
    shift = torch.rand(shape[:-1]) if shifted else None
    chosen = (torch.arange(torch.Size(shape[:-1]).numel()) % 3 != 1).nonzero()[:, 0]
    some = inner.flatten(0, -2)[chosen]
    found = masked_chosen(some, chosen, importance, shift, SEED, compiled)
    whole = masked_inner(inner, importance, shift, SEED, compiled)
    assert_same_with_gradients(found, whole.flatten(0, -2)[chosen], [inner, importance], 1e-6)


def test_no_position_at_all(compiled):
    inner, importance = torch.randn(0, 5, requires_grad=True), torch.rand(4, 5, requires_grad=True)
    found = masked_chosen(inner, torch.empty(0, dtype=torch.long), importance, None, SEED, compiled)
    assert found.shape == (0, 5)
    found.sum().backward()
    assert importance.grad is None or (importance.grad == 0).all()


def test_numbers_that_do_not_lie_side_by_side(compiled):
    inner, importance = torch.randn(70, 8, 2).permute(2, 1, 0), torch.rand(70).expand(2, 8, 70)
    _check(inner, importance, torch.rand(2, 16)[:, ::2], compiled)


def test_an_incoming_gradient_that_is_expanded(compiled):
    inner, importance = torch.randn(4, 65, requires_grad=True), torch.rand(4, 65, requires_grad=True)
    masked_inner(inner, importance, None, SEED, compiled).sum().backward()
    expected = torch.autograd.grad(_written_out(inner, importance, None, compiled).sum(), [inner, importance])
    torch.testing.assert_close([inner.grad, importance.grad], list(expected))


def test_importance_one_masks_nothing(compiled):
    inner = torch.randn(5, 66)
    assert torch.equal(masked_inner(inner, torch.ones(5, 66), None, SEED, compiled), inner)
    none_left = masked_inner(inner, torch.ones(5, 66), torch.ones(5), SEED, compiled)
    assert (none_left == 0).all()


@pytest.mark.usefixtures("library")
@SHIFTS
def test_threads_do_not_matter(with_threads, shifted):
    inner, importance = torch.randn(7, 130, requires_grad=True), torch.rand(7, 130, requires_grad=True)
    shift, incoming = torch.rand(7) if shifted else None, torch.randn(7, 130)

    def both():
        masked = masked_inner(inner, importance, shift, SEED)
        return masked, *torch.autograd.grad(masked, [inner, importance], incoming)

    for one, three in zip(with_threads(1, both), with_threads(3, both), strict=True):
        assert torch.equal(one, three)


def test_double_precision_falls_back_to_the_formulas():
    inner, importance = torch.randn(4, 5, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    assert torch.equal(
        masked_inner(inner, importance, None, SEED), masked_inner(inner, importance, None, SEED, compiled=False)
    )
    _check(inner, importance, torch.rand(4, dtype=torch.float64), compiled=True, tolerance=1e-12)


def test_without_a_library_the_formulas_serve(monkeypatch):
    dispatch = importlib.import_module("spd_lightning.kernels.dispatch")
    monkeypatch.setattr(dispatch, "build", lambda: type(build())(None, "there is none"))
    inner, importance = torch.randn(4, 5), torch.rand(4, 5)
    assert torch.equal(
        masked_inner(inner, importance, None, SEED), masked_inner(inner, importance, None, SEED, compiled=False)
    )
