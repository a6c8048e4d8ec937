"""Data of every kind reach the network, and what is wrong with them is told in one line."""

import pytest
import torch
from lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from spd_lightning import DatasetBatches, UsageError, decompose, untuned_losses

X = torch.rand(64, 3, generator=torch.Generator().manual_seed(0))


def _decomposed(data, **options):
    return decompose(nn.Sequential(nn.Linear(3, 2)), data, {"0": 4}, steps=1, progress=False, **options)


class Untested(LightningDataModule):
    """A data module without test batches."""

    def train_dataloader(self):
        return DataLoader(X, 8)

    def val_dataloader(self):
        return []


class Made(Untested):
    """Has nothing before Lightning's hooks are called, each in its turn."""

    def prepare_data(self):
        self.prepared = True

    def setup(self, stage):
        assert self.prepared
        if stage == "fit":
            self.train = X
        if stage == "test":
            self.test = self.train[::8]

    def train_dataloader(self):
        return DataLoader(self.train, 8)

    def test_dataloader(self):
        return DataLoader(self.test, 8)


class Failing(Made):
    """Its file is gone."""

    def setup(self, stage):
        raise OSError("the disk is gone")


@pytest.mark.parametrize("losses", [None, untuned_losses()], ids=["untuned", "given"])
def test_a_data_module_may_make_its_sets_in_setup(losses):
    assert "ablation/zero" in _decomposed(Made(), losses=losses).scores


EMPTY = DataLoader(X[:0], 8)


@pytest.mark.parametrize(
    ("data", "val", "told"),
    {
        "a failing module": (Failing(), None, r"^data: no batch can be had \(OSError: the disk is gone\)$"),
        "no test loader": (Untested(), None, r"^data: no batch can be had .*`test_dataloader` must be implemented"),
        "nothing to test on": (DatasetBatches(X, batch_size=8), None, "^data: it gives no test batches; give some$"),
        "an empty loader": (EMPTY, X, "^data: it gives no training batches; give some$"),
        "an empty val": (DataLoader(X, 8), EMPTY, "^val: it gives no test batches; give some$"),
        "val beside a module": (Made(), X, "^val: a data module brings its own .*; leave val out$"),
        "a module as val": (X, Made(), "^val must be a loader, a dataset or a tensor of examples, got a Made$"),
        "a module as val of a loader": (DataLoader(X, 8), Made(), "^val must be a loader, .*, got a Made$"),
        "text": ("x", None, "^data must be a data module, a loader, a dataset or a tensor of examples, got a str$"),
    }.values(),
)
@pytest.mark.parametrize("losses", [None, untuned_losses()], ids=["untuned", "given"])
def test_data_that_cannot_be_used(data, val, told, losses):
    with pytest.raises(UsageError, match=told):
        _decomposed(data, val=val, losses=losses)
