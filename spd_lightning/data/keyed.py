"""What data modules share: batches found by their number, and their rows by the process that takes them."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch import LightningDataModule

from spd_lightning.errors import UsageError, check_whole


class KeyedBatches:
    """An iterable of batches numbered by a counter: batch ``i`` is the same whenever it is asked for.

    Args:
        make: makes batch number ``i``.
        start: number of the first batch, asked when iteration begins, so that a resumed run goes on where it was.
        count: number of batches; ``None`` never ends.
    """

    def __init__(
        self, make: Callable[[int], Any], start: Callable[[], int] = lambda: 0, count: int | None = None
    ) -> None:
        self.make, self.start, self.count = make, start, count

    def __iter__(self) -> Iterator[Any]:
        index = self.start()
        end = None if self.count is None else index + self.count
        while end is None or index < end:
            yield self.make(index)
            index += 1


class SizedKeyedBatches(KeyedBatches):
    """Keyed batches that end, for evaluation.

    Args:
        make: makes batch number ``i``.
        count: number of batches.
    """

    def __init__(self, make: Callable[[int], Any], count: int) -> None:
        super().__init__(make, count=count)
        self.length = count

    def __len__(self) -> int:
        return self.length


class KeyedData(LightningDataModule):
    """A data module whose batches depend on a seed and their number alone.

    Args:
        seed: seeds all batches; ``None`` takes the decomposition's seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is not None:
            check_whole("data: seed", seed, most=None)
        self.seed = seed

    def _rows(self, size: int) -> slice:
        """Rows of a batch that this process trains on or evaluates."""
        if self.trainer is None or self.trainer.world_size == 1:
            return slice(size)
        count, rank = self.trainer.world_size, self.trainer.global_rank
        if size < count:
            raise UsageError(
                f"data: a batch of {size} rows cannot be shared by {count} processes; raise batch_size and "
                "val_batch_size, or lower trainer.devices"
            )
        return slice(size * rank // count, size * (rank + 1) // count)

    def _seed(self) -> int:
        if self.seed is not None:
            return self.seed
        return getattr(self.trainer.lightning_module, "seed", 0) if self.trainer else 0

    def _batches_done(self) -> int:
        """Training batches behind this run, among them those before it was interrupted."""
        return self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0
