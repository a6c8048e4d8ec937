"""What is lost at each threshold: against the model asked directly."""

import pytest
import torch
from torch import nn

from spd_lightning import DatasetBatches, StochasticDecomposition, UsageError
from spd_lightning.callbacks import SparsityCurve, sparsity_curve
from tests.methods.tiny import features, fit, toy

ONCE = {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": None}


@pytest.fixture
def drawn(noted):
    """Arguments of every picture that is drawn."""
    return noted(sparsity_curve, "sparsity_curve")


class Labelled(torch.utils.data.Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.x, self.y = torch.rand(20, 4, generator=generator), torch.arange(20) % 3

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def _classifier():
    torch.manual_seed(6)
    return StochasticDecomposition(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), {"0": 5, "2": 4})


def _expected(module, x, threshold):
    with torch.no_grad():
        lower = {name: ci.lower for name, ci in module.model.importance_of(x).items()}
        kept = {name: (g > threshold).float() for name, g in lower.items()}
        return sum(k.sum(-1).mean() for k in kept.values()).item(), module.model.masked(x, kept).output


def test_points_are_the_models(tmp_path, drawn):
    module, data = _classifier(), Labelled()
    curve = SparsityCurve([0.0, 0.2, 0.5], every_n_validations=1)
    batches = DatasetBatches(data, data, batch_size=20, val_batch_size=7)
    trainer = fit(
        module, batches, tmp_path, callbacks=[curve], max_steps=2, val_check_interval=2, limit_val_batches=None
    )

    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    points, lines, unit = drawn[-1]
    for threshold in (0.0, 0.2, 0.5):
        l0, output = _expected(module, data.x, threshold)
        loss = nn.functional.cross_entropy(output, data.y).item()
        assert scores[f"val/sparsity/l0/{threshold:g}"] == pytest.approx(l0, rel=1e-5)
        assert scores[f"val/sparsity/cross_entropy/{threshold:g}"] == pytest.approx(loss, rel=1e-5)
        clean = module.target(data.x)
        distance = (output - clean).square().mean().item()
        assert scores[f"val/sparsity/distance/{threshold:g}"] == pytest.approx(distance, rel=1e-5)
        assert points[f"{threshold:g}"] == pytest.approx((l0, loss), rel=1e-5)
    assert unit == "cross entropy"
    assert lines["the target itself"] == pytest.approx(
        nn.functional.cross_entropy(module.target(data.x), data.y).item(), rel=1e-5
    )
    assert (tmp_path / "figures" / "val_sparsity_curve.png").exists()


def test_without_labels_it_is_the_distance(tmp_path, drawn):
    fit(toy(), features(), tmp_path, callbacks=[SparsityCurve(every_n_validations=1)], **ONCE)
    points, lines, unit = drawn[-1]
    assert unit == "mse"
    assert list(lines) == ["everything ablated"]
    l0 = [pair[0] for pair in points.values()]
    assert l0 == sorted(l0, reverse=True)


@pytest.mark.parametrize(
    ("thresholds", "told"), [([], "there must be one, got"), ([0.5, 0.1], "must rise"), ([-1.0], "at least 0")]
)
def test_nonsense_is_refused(thresholds, told):
    with pytest.raises(UsageError, match=rf"^SparsityCurve: thresholds.*{told}"):
        SparsityCurve(thresholds)
