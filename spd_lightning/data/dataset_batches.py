"""Batches of your own datasets; a resumed run goes on at the next batch."""

from collections.abc import Callable, Iterator, Mapping, Sized
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spd_lightning.data.keyed import KeyedData
from spd_lightning.errors import UsageError, check_flag, check_whole
from spd_lightning.functional import keyed_generator


class LoadedBatches:
    """An iterable that makes its loader when iteration begins; not a ``DataLoader``, so Lightning shards it no further.

    Args:
        load: makes the loader.
    """

    def __init__(self, load: Callable[[], DataLoader[Any]]) -> None:
        self.load = load

    def __iter__(self) -> Iterator[Any]:
        return iter(self.load())


class SizedLoadedBatches(LoadedBatches):
    """Loaded batches that end, for evaluation.

    Args:
        load: makes the loader.
        count: number of batches.
    """

    def __init__(self, load: Callable[[], DataLoader[Any]], count: int) -> None:
        super().__init__(load)
        self.count = count

    def __len__(self) -> int:
        return self.count


class NumberedBatches(KeyedData):
    """Base of data modules that go through numbered examples; a subclass gives ``sets``.

    Args:
        batch_size: training examples per step, over all processes.
        val_batch_size: largest number of examples per batch of the others, over all processes.
        num_workers: processes that fetch examples, beside each training process; 0 for none.
        shuffle: whether training draws an order; else every pass is in the dataset's.
        seed: seeds the orders; ``None`` takes the decomposition's seed.

    Attributes:
        sets: the examples to train on, to validate on, to test and to predict on, by ``"train"``, ``"val"``,
            ``"test"`` and ``"predict"``; all but the first may be ``None``.

    Raises:
        UsageError: for a value outside its range.
    """

    sets: Mapping[str, Dataset[Any] | None]

    def __init__(self, batch_size: int, val_batch_size: int, num_workers: int, shuffle: bool, seed: int | None) -> None:
        super().__init__(seed)
        check_whole("data: batch_size", batch_size, least=1)
        check_whole("data: val_batch_size", val_batch_size, least=1)
        check_whole("data: num_workers", num_workers, least=0)
        check_flag("data: shuffle", shuffle)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers, self.shuffle = num_workers, shuffle

    def checked(self, sets: Mapping[str, Dataset[Any] | None]) -> Mapping[str, Dataset[Any] | None]:
        """The sets, if each of them holds examples and the first a batch of them; else a :class:`UsageError`."""
        for name, examples in sets.items():
            if examples is not None:
                _check_length(f"data: {name}", examples)
        held = _length(sets["train"])
        if self.batch_size > held:
            raise UsageError(f"data: batch_size is {self.batch_size}, but train holds {held}; lower batch_size")
        return sets

    def train_dataloader(self) -> LoadedBatches:
        """Endless training batches that begin at the first one not yet trained on."""
        return LoadedBatches(lambda: self._loader("train", self._train_rows(self._batches_done())))

    def val_dataloader(self) -> SizedLoadedBatches | list[Any]:
        """The validation batches; none without ``val``."""
        return self._in_order("val")

    def test_dataloader(self) -> SizedLoadedBatches | list[Any]:
        """The test batches."""
        return self._in_order("test")

    def predict_dataloader(self) -> SizedLoadedBatches | list[Any]:
        """The examples to predict on; a :class:`UsageError` without any."""
        if self.sets["predict"] is None:
            raise UsageError("data: predict must be a dataset to predict on; give one, or name a file with --input")
        return self._in_order("predict")

    def order(self, index: int) -> Tensor:
        """The order of a pass through ``train``, ``[examples]``."""
        size = _length(self.sets["train"])
        if not self.shuffle:
            return torch.arange(size)
        return torch.randperm(size, generator=keyed_generator(self._seed(), "order", index))

    def _train_rows(self, start: int) -> Iterator[list[int]]:
        """The examples' numbers in every batch from one on, without end."""
        index, skipped = divmod(start * self.batch_size, _length(self.sets["train"]))
        waiting = self.order(index)[skipped:]
        while True:
            while len(waiting) < self.batch_size:
                index += 1
                waiting = torch.cat([waiting, self.order(index)])
            batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
            yield batch[self._rows(self.batch_size)].tolist()

    def _in_order(self, name: str) -> SizedLoadedBatches | list[Any]:
        examples = self.sets[name]
        if examples is None:
            return []
        size = _length(examples)
        count = -(-size // self.val_batch_size)
        edges = [size * batch // count for batch in range(count + 1)]
        batches = [[*range(start, end)[self._rows(end - start)]] for start, end in pairwise(edges)]
        return SizedLoadedBatches(lambda: self._loader(name, batches), count)

    def _loader(self, name: str, rows: Any) -> DataLoader[Any]:
        seeds = keyed_generator(self._seed(), "workers", name)  # else torch would draw them from its global generator
        examples = cast(Dataset[Any], self.sets[name])
        return DataLoader(examples, batch_sampler=rows, num_workers=self.num_workers, generator=seeds)


class DatasetBatches(NumberedBatches):
    """Batches of your own datasets (anything with a length and numbered examples).

    Training goes through ``train`` again and again, each time in another order, drawn from (seed, "order", pass); a
    batch may begin in one pass and end in the next, so that no example is left out. Which examples a step sees
    depends on its number alone: not on interruptions, the number of processes, or ``num_workers``.

    Args:
        train: examples to train on; each a tensor, or a tuple that begins with the target's input.
        val: examples to validate on, in their order; ``None`` for no validation.
        test: examples of ``test`` and of the final scores; ``None`` takes ``val``.
        predict: examples of ``predict`` without an input file.
        batch_size: training examples per step, over all processes.
        val_batch_size: largest number of examples per batch of the other three, over all processes.
        num_workers: processes that fetch examples, beside each training process; 0 for none.
        shuffle: whether training draws an order; else every pass is in the dataset's.
        seed: seeds the orders; ``None`` takes the decomposition's seed.

    Raises:
        UsageError: for a value outside its range, or a dataset that is empty, has no length or is below a batch.
    """

    def __init__(
        self,
        train: Dataset,  # type: ignore[type-arg] # the parser of configs takes no Dataset[Any]
        val: Dataset | None = None,  # type: ignore[type-arg]
        test: Dataset | None = None,  # type: ignore[type-arg]
        predict: Dataset | None = None,  # type: ignore[type-arg]
        batch_size: int = 1024,
        val_batch_size: int = 4096,
        num_workers: int = 0,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, val_batch_size, num_workers, shuffle, seed)
        self.sets = self.checked(
            {"train": train, "val": val, "test": val if test is None else test, "predict": predict}
        )


def _length(examples: Dataset[Any] | None) -> int:
    return len(cast(Sized, examples))


def _check_length(name: str, examples: Dataset[Any]) -> None:
    if not hasattr(examples, "__len__"):
        kind = type(examples).__name__
        raise UsageError(f"{name} must have a length and numbered examples, which {kind} does not; use a map-style one")
    if not _length(examples):
        raise UsageError(f"{name} must hold examples, got none")
