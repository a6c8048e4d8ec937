import pytest
import torch

from spd_lightning.metrics import MeanDistance
from tests import reference

KINDS = pytest.mark.parametrize("kind", ["mse", "kl"])


@pytest.fixture(params=[(6, 3), (6, 2, 3)], ids=["batch", "batch-position"])
def pair(request):
    return torch.randn(request.param, dtype=torch.float64), torch.randn(request.param, dtype=torch.float64)


@KINDS
def test_batches_of_unequal_size_weigh_by_their_size(kind, pair):
    metric = MeanDistance(kind)
    for prediction, target in zip(*(tensor.split([1, 3, 2]) for tensor in pair), strict=True):
        metric.update(prediction, target)
    expected = getattr(reference, kind)(*(tensor.reshape(-1, 3) for tensor in pair))
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-9)


@KINDS
def test_equal_outputs_have_no_distance(kind, pair):
    metric = MeanDistance(kind)
    metric.update(pair[0], pair[0])
    assert metric.compute() == pytest.approx(0, abs=1e-12)


def test_no_graph_is_kept():
    metric = MeanDistance()
    metric.update(torch.rand(2, 3, requires_grad=True), torch.rand(2, 3))
    assert not metric.compute().requires_grad


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match="kind must be 'mse' or 'kl', got 'l1'"):
        MeanDistance("l1")
    with pytest.raises(ValueError, match=r"must have the same shape, got \[2, 3\] and \[3\]"):
        MeanDistance().update(torch.rand(2, 3), torch.rand(3))
