import pytest
import torch

from spd_lightning.metrics import ActiveComponents, AliveComponents, MeanCausalImportance


@pytest.fixture(params=[(7, 4), (5, 3, 4)], ids=["batch", "batch-position"])
def importance(request):
    values = torch.rand(request.param, dtype=torch.float64)
    values[..., 2] *= 0.09
    return torch.where(values < 0.3, values / 10, values)


def _batches(importance):
    return importance.split([1, 3, len(importance) - 4])


METRICS = pytest.mark.parametrize(
    "make", [ActiveComponents, lambda: AliveComponents(4), lambda: MeanCausalImportance(4)], ids=["l0", "alive", "mean"]
)


@METRICS
def test_several_batches_equal_their_concatenation(make, importance):
    several, one = make(), make()
    for batch in _batches(importance):
        several.update(batch)
    one.update(importance)
    torch.testing.assert_close(several.compute(), one.compute())


@METRICS
def test_a_reset_forgets(make, importance):
    metric, fresh = make(), make()
    metric.update(torch.ones_like(importance))
    metric.reset()
    metric.update(importance)
    fresh.update(importance)
    assert torch.equal(metric.compute(), fresh.compute())


@METRICS
def test_forward_gives_the_batch_and_keeps_the_whole(make, importance):
    metric = make()
    for batch in _batches(importance):
        alone = make()
        alone.update(batch)
        torch.testing.assert_close(metric(batch), alone.compute())
    whole = make()
    whole.update(importance)
    torch.testing.assert_close(metric.compute(), whole.compute())


def test_values_equal_plain_loops(importance):
    rows = importance.reshape(-1, 4).tolist()
    for threshold in (0.1, 0.01):
        l0, alive = ActiveComponents(threshold), AliveComponents(4, threshold)
        l0.update(importance)
        alive.update(importance)
        assert l0.compute().item() == pytest.approx(sum(g > threshold for row in rows for g in row) / len(rows))
        expected = [any(row[c] > threshold for row in rows) for c in range(4)]
        assert alive.mask().tolist() == expected
        assert alive.compute().item() == sum(expected)
    mean = MeanCausalImportance(4)
    mean.update(importance)
    assert mean.compute().tolist() == pytest.approx([sum(row[c] for row in rows) / len(rows) for c in range(4)])


def test_alive_is_not_one_number_for_the_whole_site():
    alive = AliveComponents(3)
    alive.update(torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.5, 0.0]]))
    assert alive.mask().tolist() == [True, True, False]


def test_the_mask_is_a_copy():
    alive = AliveComponents(2)
    alive.update(torch.tensor([[0.9, 0.0]]))
    alive.mask().fill_(False)
    assert alive.compute() == 1


def test_no_graph_is_kept():
    mean = MeanCausalImportance(2)
    mean.update(torch.rand(3, 2, requires_grad=True))
    assert not mean.compute().requires_grad


@pytest.mark.parametrize("kind", [AliveComponents, MeanCausalImportance])
def test_wrong_widths(kind):
    with pytest.raises(ValueError, match="n_components must be at least 1, got 0"):
        kind(0)
    with pytest.raises(ValueError, match=r"importance must have shape \[\.\.\., 4\], got \[2, 3\]"):
        kind(4).update(torch.rand(2, 3))
