import pytest
import torch

from spd_lightning.functional import (
    jittered_importance,
    keyed_generator,
    lower_leaky,
    mask_from_source,
    random_source,
)
from tests import reference


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3)])
def test_value_and_gradient_equal_the_reference(shape):
    importance = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    source = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    incoming = torch.randn(shape, dtype=torch.float64)
    mask = mask_from_source(importance, source)
    expected = reference.mask(importance.flatten(0, -2), source.flatten(0, -2)).reshape(shape)
    torch.testing.assert_close(mask, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(mask, (importance, source), incoming)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (importance, source), incoming))


def test_by_hand():
    importance, source = torch.tensor([0.0, 1.0, 0.5, 0.25]), torch.tensor([0.3, 0.0, 1.0, 0.5])
    torch.testing.assert_close(mask_from_source(importance, source), torch.tensor([0.3, 1.0, 1.0, 0.625]))


def test_one_source_serves_a_whole_batch():
    importance, source = torch.rand(2, 5, 3), torch.rand(1, 1, 3)
    torch.testing.assert_close(
        mask_from_source(importance, source), mask_from_source(importance, source.expand(2, 5, 3))
    )


def test_uniform_sources_fill_the_unit_interval():
    draw = random_source("uniform", (50_000,), keyed_generator("uniform"), torch.float64)
    assert draw.dtype == torch.float64
    assert 0 <= draw.min() < 0.001
    assert 0.999 < draw.max() < 1
    assert draw.mean().item() == pytest.approx(0.5, abs=0.01)


def test_binomial_sources_are_fair_coins():
    draw = random_source("binomial", (50_000,), keyed_generator("binomial"))
    assert set(draw.tolist()) == {0.0, 1.0}
    assert draw.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("leak", ["one_sided", "linear"])
def test_jitter_is_noise_at_the_threshold(leak):
    logits = torch.randn(30, 4, dtype=torch.float64)
    noise = random_source("uniform", logits.shape, keyed_generator("jitter"), torch.float64)
    expected = lower_leaky(1.05 * logits - 0.05 * noise, leak)
    torch.testing.assert_close(jittered_importance(logits, leak, keyed_generator("jitter")), expected)
    assert not torch.equal(expected, lower_leaky(logits, leak))


def test_unknown_kind():
    with pytest.raises(ValueError, match="source kind must be 'uniform' or 'binomial', got 'normal'"):
        random_source("normal", (1,), keyed_generator("x"))
