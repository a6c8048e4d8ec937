"""Whatever data a user has at hand, as batches to train and to judge on."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from spd_lightning.data import DatasetBatches
from spd_lightning.errors import UsageError
from spd_lightning.model.acceptance import first_line

HELD_OUT = 10
"""Without data to judge on, one example in so many is kept for it."""
VAL = "val must be a loader,"
Data = LightningDataModule | DataLoader[Any] | Dataset[Any] | Tensor


def as_data_module(data: Data, val: Data | None, batch_size: int, seed: int) -> LightningDataModule:
    """Data for a trainer.

    Args:
        data: a data module, taken as it is; a loader; a dataset, anything with a length and numbered examples; or a
            tensor of examples, ``[examples, ...]``.
        val: data to judge on, of the same kinds but the first, beside which it must be ``None``; ``None`` keeps every
            tenth example of a dataset for it, and judges on a loader's own.
        batch_size: of datasets and tensors; fewer where there are fewer.
        seed: of the order.

    Returns:
        A data module with training and test batches.

    Raises:
        UsageError: for anything else, or too few examples.
    """
    if isinstance(data, LightningDataModule):
        if val is not None:
            raise UsageError("val: a data module brings its own batches to judge on; leave val out")
        return data
    if isinstance(data, DataLoader):
        return _Loaders(data, data if val is None else _loader(val, batch_size))
    train = _numbered(data, "data must be a data module, a loader,")
    held_out = None if val is None else _numbered(val, VAL)
    if held_out is None:
        train, held_out = _split(train)
    size = min(batch_size, len(cast(Sized, train)))
    return DatasetBatches(train, held_out, batch_size=size, val_batch_size=batch_size, seed=seed)


def prepared(data: LightningDataModule, *stages: str) -> LightningDataModule:
    """Get a data module ready to be asked for batches, in the order in which a trainer would.

    Args:
        data: the data module.
        stages: of Lightning that it is set up for.

    Returns:
        The same data module.

    Raises:
        UsageError: if it fails.
    """
    with told_of_data():
        data.prepare_data()
        for stage in stages:
            data.setup(stage)
    return data


def first_batch(load: Callable[[], Any], name: str, kind: str) -> Any:
    """The first of some batches.

    Args:
        load: gives their loader, such as ``test_dataloader`` of a data module that is prepared.
        name: of the argument that they come from.
        kind: of batches, ``"training"`` or ``"test"``.

    Returns:
        The batch.

    Raises:
        UsageError: if there is none.
    """
    with told_of_data(name):
        found = list(islice(load(), 1))
    if not found:
        raise UsageError(f"{name}: it gives no {kind} batches; give some")
    return found[0]


@contextmanager
def told_of_data(name: str = "data") -> Iterator[None]:
    """Turn whatever data of somebody's own raise into one line.

    Args:
        name: of the argument that the data are.

    Raises:
        UsageError: with the argument's name and the reason.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{name}: no batch can be had ({type(error).__name__}: {first_line(error)})") from error


def _numbered(data: Any, rule: str) -> Dataset[Any]:
    if isinstance(data, DataLoader):
        return data.dataset
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | dict):
        raise UsageError(f"{rule} a dataset or a tensor of examples, got a {type(data).__name__}")
    return cast(Dataset[Any], data)


def _split(data: Dataset[Any]) -> tuple[Dataset[Any], Dataset[Any]]:
    count = len(cast(Sized, data))
    if count < 2:
        raise UsageError(f"data must hold at least 2 examples, got {count}")
    every = min(HELD_OUT, count)
    kept = torch.arange(count) % every == every - 1
    return tuple(Subset(data, torch.nonzero(mask).flatten().tolist()) for mask in (~kept, kept))  # type: ignore[return-value]


def _loader(data: Data, batch_size: int) -> DataLoader[Any]:
    return data if isinstance(data, DataLoader) else DataLoader(_numbered(data, VAL), batch_size)


class _Loaders(LightningDataModule):
    """Loaders of the user's own."""

    def __init__(self, train: DataLoader[Any], test: DataLoader[Any]) -> None:
        super().__init__()
        self._train, self._test = train, test

    def train_dataloader(self) -> DataLoader[Any]:
        return self._train

    def test_dataloader(self) -> DataLoader[Any]:
        return self._test
