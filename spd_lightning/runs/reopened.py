"""A finished run, opened again without training: its decomposition, the data that it was tested on, its distance."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import Dataset

from spd_lightning.artefact.export import load_model
from spd_lightning.data.keyed import KeyedData
from spd_lightning.errors import UsageError
from spd_lightning.files.describe import import_named, rebuilt
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.methods import saved_distance
from spd_lightning.model import ComponentModel
from spd_lightning.runs.record import CONFIG_NAME, read_record


@dataclass(frozen=True)
class ScoredBatches:
    """The batches that a run was scored on, or some of training, the same ones every time they are gone through.

    Attributes:
        data: the run's data module, prepared.
        limit: how many of them the run took, as a number or a share; ``None`` for all.
        stage: ``"test"``, ``"val"`` where the data holds nothing for a test, or ``"train"``.
    """

    data: LightningDataModule
    limit: int | float | None = None
    stage: str = "test"

    def _loader(self) -> Any:
        return getattr(self.data, f"{self.stage}_dataloader")()

    def __iter__(self) -> Iterator[Any]:
        count = self.count() if isinstance(self.limit, float) else self.limit
        return islice(iter(self._loader()), count)

    def count(self) -> int | None:
        """How many there are; ``None`` if the data does not know."""
        loader = self._loader()
        if not hasattr(loader, "__len__"):
            return self.limit if isinstance(self.limit, int) else None
        found = len(loader)
        if self.limit is None:
            return found
        return max(1, int(self.limit * found)) if isinstance(self.limit, float) else min(self.limit, found)


@dataclass(frozen=True)
class Reopened:
    """A run, opened again.

    Attributes:
        model: the decomposition of either method, on its target.
        batches: what it was tested on.
        distance: how it compares outputs.
        tokenizer: of the data, where that is text; else ``None``.
    """

    model: ComponentModel
    batches: ScoredBatches
    distance: DistanceKind
    tokenizer: Any = None

    def training(self, count: int) -> ScoredBatches:
        """The first batches that the run trained on.

        Args:
            count: how many.

        Raises:
            UsageError: if the data cannot be had.
        """
        with _told(CONFIG_NAME):
            self.batches.data.setup("fit")
        return ScoredBatches(self.batches.data, count, "train")


def reopened(folder: Path, import_classes: bool = False, model: ComponentModel | None = None) -> Reopened:
    """Open a run directory again: nothing is trained, and nothing in it is changed.

    Args:
        folder: the run directory.
        import_classes: whether modules that its files name are imported, which runs their code; else classes of your
            own must be imported before.
        model: the run's decomposition, where it has been read before.

    Raises:
        UsageError: if it holds no decomposition or no config, either is damaged, or its data cannot be had.
    """
    model = load_model(folder, import_classes) if model is None else model
    config = _config(folder)
    origin = str(folder / CONFIG_NAME)
    if import_classes:
        import_named({"data": config["data"], "losses": config["model"].get("losses")}, origin)
    seed = getattr(model, "seed", 0)  # which the run's data takes where it has none of its own
    data = _data(config, origin, object if import_classes else Dataset, seed)
    return Reopened(model, _batches(data, config), saved_distance(config["model"]), getattr(data, "tokenizer", None))


def _config(folder: Path) -> Mapping[str, Any]:
    record = read_record(folder)
    if not record.config:
        reason = record.problem or f"{CONFIG_NAME} is empty"
        raise UsageError(f"{folder}: {reason}; it names the run's data, and fit writes it")
    for part in ("data", "model"):
        if not isinstance(record.config.get(part), dict):
            raise UsageError(f"{str(folder / CONFIG_NAME)!r} is damaged: it has no {part}")
    return record.config


def _data(config: Mapping[str, Any], origin: str, nested: type, seed: int) -> LightningDataModule:
    """The data module that a config describes, ready to be asked for batches."""
    with _told(origin):
        data: LightningDataModule = rebuilt(config["data"], LightningDataModule, "config.yaml: data", nested)
        if isinstance(data, KeyedData) and data.seed is None:
            data.seed = seed
        data.prepare_data()
        data.setup("test")
    return data


@contextmanager
def _told(origin: str) -> Iterator[None]:
    """Whatever goes wrong with the data inside becomes one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # a data module of anybody's may fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{origin}: data: cannot be had again ({type(error).__name__}: {reason})") from None


def _batches(data: LightningDataModule, config: Mapping[str, Any]) -> ScoredBatches:
    stage = "test" if is_overridden("test_dataloader", data) else "val"
    trainer = config.get("trainer")
    limit = trainer.get(f"limit_{stage}_batches") if isinstance(trainer, dict) else None
    return ScoredBatches(data, limit, stage)
