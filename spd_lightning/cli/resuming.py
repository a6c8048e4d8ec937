"""Going on with a run that was stopped, and starting one from the weights of another."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from torch import Tensor

from spd_lightning.artefact.export import WEIGHTS_NAME, read_artefact
from spd_lightning.cli.notices import tell
from spd_lightning.errors import UsageError
from spd_lightning.methods.checkpoint_content import check_content
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY, MODEL_PREFIX
from spd_lightning.runs.checkpoints import read_checkpoint
from spd_lightning.runs.record import CONFIG_NAME, RunRecord, read_record

OF_THE_TRAINER = (
    "max_steps",  # schedules span it
    "max_epochs",
    "accumulate_grad_batches",
    "precision",
    "devices",
    "num_nodes",
    "limit_train_batches",
    "overfit_batches",
)
FREE = re.compile(
    r"model\.save_target|data\..*\b((val|test)_\w+|num_workers|pin_memory|persistent_workers|prefetch_factor)"
)
"""What changes no trained number: which weights are kept, evaluation, and how a loader fetches."""


@dataclass(frozen=True)
class Stop:
    """Where a run stands.

    Attributes:
        record: its run directory, read back.
        checkpoint: the newest intact checkpoint; ``None`` if there is none.
        steps: optimiser steps done.
        finished: whether its training is complete and its final scores are written.
    """

    record: RunRecord
    checkpoint: Path | None
    steps: int
    finished: bool


def find_stop(folder: Path, version: str | int | None, config: Namespace) -> Stop | None:
    """Where the newest run stands, if there is one to go on with.

    Args:
        folder: all versions of a run.
        version: the one to look at; by default the one with the highest number.
        config: of the command, resolved.

    Returns:
        ``None`` if the run starts anew.

    Raises:
        UsageError: if the run was made with other settings, or if it would be begun anew over damaged checkpoints.
    """
    run = _newest_run(folder, version)
    if run is None:
        return None
    record, found = read_record(run), newest_intact(run)
    finished = record.state == "finished" and record.metrics.get("steps", 0) >= config.trainer.max_steps
    if found is None and not finished:
        if version is not None and any(run.glob("checkpoints/*.ckpt")):
            raise UsageError(
                f"--resume auto: no checkpoint in {str(run)!r} is intact; move the directory away to start anew"
            )
        tell(f"{run} holds no intact checkpoint to go on from; a new run starts")
        return None
    path, content = found or (None, {})
    saved = content.get(CHECKPOINT_KEY, {}).get("settings")
    if not isinstance(saved, dict) or not saved:
        saved = trained_settings(record.config)
    _check_same(saved, trained_settings(config), str(path or run))
    return Stop(record, path, content.get("global_step", record.metrics.get("steps", 0)), finished)


def trained_settings(config: Mapping[str, Any] | Namespace) -> dict[str, Any]:
    """The settings that change the trained numbers, by dotted key.

    These are the seed, ``model``, ``data`` and, of the trainer, what decides on the number and the size of steps;
    not what concerns logging, callbacks, paths, evaluation or how a loader fetches.

    Args:
        config: of a ``fit``, resolved.

    Returns:
        Plain data.
    """
    content = _mapping(config)
    trainer = _mapping(content.get("trainer", {}))
    chosen = {name: content.get(name) for name in ("seed_everything", "model", "data")}
    flat = {**dict(_flat("", chosen)), **{f"trainer.{name}": trainer.get(name) for name in OF_THE_TRAINER}}
    return {key: value for key, value in flat.items() if not FREE.fullmatch(key)}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Components and importance functions from a checkpoint, or from the directory of a finished run.

    Args:
        path: ``.ckpt`` file, or a directory with ``components.safetensors``.

    Returns:
        The state of a decomposition, by name, perhaps with its target.

    Raises:
        UsageError: if there is no such file, or it is damaged or of another kind.
    """
    if not path.is_dir():
        content = read_checkpoint(path)
        check_content(content)
        state = content["state_dict"]
        return {name.removeprefix(MODEL_PREFIX): tensor for name, tensor in state.items()}
    if not (path / WEIGHTS_NAME).is_file():
        raise UsageError(
            f"--init_from {str(path)!r} holds no {WEIGHTS_NAME}, which a finished run has; name one of its checkpoints"
        )
    return read_artefact(path)[1]


def _newest_run(folder: Path, version: str | int | None) -> Path | None:
    if version is not None:
        name = version if isinstance(version, str) else f"version_{version}"
        return folder / name if (folder / name / CONFIG_NAME).is_file() else None
    numbered = {int(path.name[8:]): path for path in folder.glob("version_*") if path.name[8:].isdigit()}
    begun = {number: path for number, path in numbered.items() if (path / CONFIG_NAME).is_file()}
    return begun[max(begun)] if begun else None


def newest_intact(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint of a run that was written last and is whole, with its content; damaged ones are told."""
    for path in sorted(run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            content = read_checkpoint(path)
            check_content(content)
            return path, content
        except UsageError as error:
            tell(f"{error}; looking for the one before it")
    return None


def _check_same(saved: Mapping[str, Any], configured: Mapping[str, Any], origin: str) -> None:
    odd = [key for key in sorted({*saved, *configured}) if saved.get(key) != configured.get(key)]
    if odd:
        listed = ", ".join(f"{key} ({saved.get(key)} in the run, {configured.get(key)} in the config)" for key in odd)
        raise UsageError(
            f"--resume auto: {origin!r} was made with other settings: {listed}; repeat them, start a new run with "
            f"--resume never, or start one from its weights alone with --resume never --init_from {origin}"
        )


def _mapping(value: Any) -> dict[str, Any]:
    return vars(value) if isinstance(value, Namespace) else dict(value)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Namespace | Mapping):
        for name, inner in _mapping(value).items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is None or isinstance(value, bool | int | float | str):
        yield prefix, value
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _flat(f"{prefix}.{position}", inner)
    else:
        yield prefix, str(value)
