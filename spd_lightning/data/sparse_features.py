"""Synthetic sparse features, drawn afresh for every step."""

import torch
from torch import Generator, Tensor

from spd_lightning.data.keyed import KeyedBatches, KeyedData, SizedKeyedBatches
from spd_lightning.errors import UsageError, check_flag, check_fraction, check_number, check_whole
from spd_lightning.functional import (
    WeightedBatch,
    keyed_generator,
    merged_rows,
    merged_sparse_features,
    sparse_features,
)


class SparseFeatures(KeyedData):
    """Features that are active with a small probability, independently, with uniform values (SPD paper's toys).

    Training never repeats a batch; validation and test each see fixed batches of their own. Everything is keyed by
    (seed, purpose, batch number), so that a resumed run sees what an uninterrupted one would. Several processes share
    each batch: every one draws it and keeps its rows, so that together they see what one alone would.

    Args:
        n_features: width of a batch.
        feature_probability: chance that a feature is active, in (0, 1].
        value_min: lowest value of an active feature.
        value_max: highest value of an active feature.
        batch_size: training examples per step, over all processes.
        merge_empty: whether training carries one weighted row in place of all that have no active feature (ours:
            the same expectation, fewer rows, less noise). A batch too small or too dense for it is drawn as it is.
        val_batches: number of validation and of test batches.
        val_batch_size: examples per validation or test batch, over all processes.
        seed: seeds all batches; ``None`` takes the decomposition's seed.

    Raises:
        UsageError: for a value outside its range, or a width that is not the target's.
    """

    def __init__(
        self,
        n_features: int,
        feature_probability: float = 0.05,
        value_min: float = 0.0,
        value_max: float = 1.0,
        batch_size: int = 1024,
        val_batches: int = 4,
        val_batch_size: int = 4096,
        seed: int | None = None,
        merge_empty: bool = True,
    ) -> None:
        super().__init__(seed)
        sizes = {"n_features": n_features, "batch_size": batch_size, "val_batches": val_batches}
        for name, size in {**sizes, "val_batch_size": val_batch_size}.items():
            check_whole(f"data: {name}", size, least=1)
        check_fraction("data: feature_probability", feature_probability, zero=False)
        check_flag("data: merge_empty", merge_empty)
        check_number("data: value_min", value_min)
        check_number("data: value_max", value_max)
        if not float("-inf") < value_min < value_max < float("inf"):
            raise UsageError(f"data: value_min must be below value_max, got {value_min} and {value_max}")
        self.n_features, self.feature_probability = n_features, feature_probability
        self.value_min, self.value_max = value_min, value_max
        self.batch_size, self.val_batches, self.val_batch_size = batch_size, val_batches, val_batch_size
        self.merge_empty = merge_empty

    def prepare_data(self) -> None:
        """Check that the target takes inputs of this width, before anything is trained or written."""
        module = self.trainer.lightning_module if self.trainer else None
        expected = getattr(getattr(module, "target", None), "n_features", self.n_features)
        if expected != self.n_features:
            raise UsageError(f"data: n_features is {self.n_features}, but the target takes {expected}; make them equal")

    def batch(self, purpose: str, index: int, size: int) -> Tensor:
        """This process's rows of batch number ``index`` of a purpose, ``[size, n_features]`` for one process."""
        return sparse_features(*self._distribution(size), self._generator(purpose, index))[self._rows(size)]

    def train_batch(self, index: int) -> Tensor | WeightedBatch:
        """Training batch number ``index``, its empty rows merged where that is wanted and gains something."""
        distribution = self._distribution(self.batch_size)
        if self.merge_empty and merged_rows(*distribution[:3]):
            merged = merged_sparse_features(*distribution, self._generator("train", index))
            rows = self._rows(len(merged.x))
            return WeightedBatch(merged.x[rows], merged.weights[rows])
        return self.batch("train", index, self.batch_size)

    def _distribution(self, size: int) -> tuple[int, int, float, tuple[float, float]]:
        return size, self.n_features, self.feature_probability, (self.value_min, self.value_max)

    def _generator(self, purpose: str, index: int) -> Generator:
        # the 0 was the process's number: batches of one process stay what they were
        return keyed_generator(self._seed(), purpose, index, 0)

    def probes(self, magnitude: float = 0.75) -> Tensor:
        """One-hot inputs, ``[n_features, n_features]``; the paper's figures use a magnitude of 0.75."""
        return magnitude * torch.eye(self.n_features)

    def train_dataloader(self) -> KeyedBatches:
        """Endless training batches that begin at the first one not yet trained on."""
        return KeyedBatches(self.train_batch, self._batches_done)

    def val_dataloader(self) -> SizedKeyedBatches:
        """The validation batches."""
        return SizedKeyedBatches(lambda index: self.batch("val", index, self.val_batch_size), self.val_batches)

    def test_dataloader(self) -> SizedKeyedBatches:
        """The test batches."""
        return SizedKeyedBatches(lambda index: self.batch("test", index, self.val_batch_size), self.val_batches)

    def predict_dataloader(self) -> SizedKeyedBatches:
        """The one-hot probes as one batch, for ``predict`` without an input file."""
        return SizedKeyedBatches(lambda index: self.probes(), 1)
