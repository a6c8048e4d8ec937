"""Whatever data a user has at hand, as batches to train and to judge on."""

from collections.abc import Sized
from typing import Any, cast

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from spd_lightning.data import DatasetBatches
from spd_lightning.errors import UsageError

HELD_OUT = 10
"""Without data to judge on, one example in so many is kept for it."""
Data = LightningDataModule | DataLoader[Any] | Dataset[Any] | Tensor


def as_data_module(data: Data, val: Data | None, batch_size: int, seed: int) -> LightningDataModule:
    """Data for a trainer.

    Args:
        data: a data module, taken as it is; a loader; a dataset, anything with a length and numbered examples; or a
            tensor of examples, ``[examples, ...]``.
        val: data to judge on, of the same kinds but the first; ``None`` keeps every tenth example of a dataset for it,
            and judges on a loader's own.
        batch_size: of datasets and tensors; fewer where there are fewer.
        seed: of the order.

    Returns:
        A data module with training and test batches.

    Raises:
        UsageError: for anything else, or too few examples.
    """
    if isinstance(data, LightningDataModule):
        return data
    if isinstance(data, DataLoader):
        return _Loaders(data, data if val is None else _loader(val, batch_size))
    train, held_out = _numbered(data), None if val is None else _numbered(val)
    if held_out is None:
        train, held_out = _split(train)
    size = min(batch_size, len(cast(Sized, train)))
    return DatasetBatches(train, held_out, batch_size=size, val_batch_size=batch_size, seed=seed)


def first_batch(data: LightningDataModule) -> Any:
    """The first batch to judge on."""
    return next(iter(data.test_dataloader()))


def _numbered(data: Any) -> Dataset[Any]:
    if isinstance(data, DataLoader):
        return data.dataset
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | dict):
        kind = type(data).__name__
        raise UsageError(f"data must be a data module, a loader, a dataset or a tensor of examples, got a {kind}")
    return cast(Dataset[Any], data)


def _split(data: Dataset[Any]) -> tuple[Dataset[Any], Dataset[Any]]:
    count = len(cast(Sized, data))
    if count < 2:
        raise UsageError(f"data must hold at least 2 examples, got {count}")
    every = min(HELD_OUT, count)
    kept = torch.arange(count) % every == every - 1
    return tuple(Subset(data, torch.nonzero(mask).flatten().tolist()) for mask in (~kept, kept))  # type: ignore[return-value]


def _loader(data: Data, batch_size: int) -> DataLoader[Any]:
    return data if isinstance(data, DataLoader) else DataLoader(_numbered(data), batch_size)


class _Loaders(LightningDataModule):
    """Loaders of the user's own."""

    def __init__(self, train: DataLoader[Any], test: DataLoader[Any]) -> None:
        super().__init__()
        self._train, self._test = train, test

    def train_dataloader(self) -> DataLoader[Any]:
        return self._train

    def test_dataloader(self) -> DataLoader[Any]:
        return self._test
