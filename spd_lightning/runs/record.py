"""A run directory read back: what it was told to do, what it found, and whether it is finished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from spd_lightning.files.version import library_version
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.runs.findings import Finding, findings
from spd_lightning.runs.verdict import shortfalls

METRICS_NAME, CONFIG_NAME = "metrics.json", "config.yaml"
State = Literal["absent", "started", "finished", "damaged"]


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says about its run.

    Attributes:
        folder: the run directory.
        state: ``"absent"`` (nothing there), ``"started"`` (a config, no final scores), ``"finished"``, ``"damaged"``.
        problem: why it is damaged, in one line; else empty.
        metrics: content of ``metrics.json``: scores, settings, seed, steps, wall time, machine, versions.
        config: content of ``config.yaml``, plain data.
    """

    folder: Path
    state: State
    problem: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> Mapping[str, float]:
        """Final scores by name, without the stage."""
        scores: Mapping[str, float] = self.metrics.get("scores", {})
        return scores

    @property
    def findings(self) -> list[Finding]:
        """The verdict as the run gave it, with its advice; from the scores where it gave none."""
        given = self.metrics.get("verdict")
        kinds = {"question": str, "good": bool, "answer": str, "measured": str, "advice": str}
        try:
            said = [Finding(**entry) for entry in given or ()]
        except TypeError:
            return findings(self.scores)
        fit = all(isinstance(getattr(one, name), kind) for one in said for name, kind in kinds.items())
        return said if said and fit else findings(self.scores)

    @property
    def shortfalls(self) -> list[str]:
        """Why the run does not count as recovered; empty if it does."""
        return shortfalls(self.scores)

    @property
    def other_version(self) -> str | None:
        """Version of this package that made the run, if it is not the present one."""
        made_by = self.metrics.get("versions", {}).get("spd_lightning")
        return made_by if made_by is not None and made_by != library_version() else None

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        last = self.folder / "checkpoints" / "last.ckpt"
        return last if last.is_file() else None

    @property
    def figures(self) -> list[Path]:
        """Final pictures, those of the test where there was one."""
        found = sorted(self.folder.glob("figures/*.png"))
        final = [path for path in found if path.name.startswith("test_")]
        return final or found

    @property
    def analyses(self) -> list[Path]:
        """Pictures of analyses: graphs, circuits, pairs of query and key components."""
        return sorted(path for path in self.folder.glob(f"{FOLDER}/*/*") if path.suffix in (".png", ".svg"))


def read_record(folder: Path) -> RunRecord:
    """Read a run directory; never raises for what is in it.

    Args:
        folder: the run directory, which need not exist.

    Returns:
        The record.
    """
    if not (folder / CONFIG_NAME).is_file():
        left_over = folder.is_dir() and any(folder.iterdir())
        return RunRecord(folder, *(("damaged", f"{CONFIG_NAME} is missing") if left_over else ("absent", "")))
    try:
        config = _mapping(folder / CONFIG_NAME, yaml.safe_load((folder / CONFIG_NAME).read_text()))
        if not (folder / METRICS_NAME).is_file():
            return RunRecord(folder, "started", config=config)
        metrics = _mapping(folder / METRICS_NAME, json.loads((folder / METRICS_NAME).read_text()))
        _check_scores(metrics)
    except (OSError, ValueError, RuntimeError, yaml.YAMLError) as error:  # RuntimeError: nested beyond all measure
        return RunRecord(folder, "damaged", " ".join(str(error).split()))
    return RunRecord(folder, "finished", metrics=metrics, config=config)


def _mapping(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no mapping")
    return content


def _check_scores(metrics: Mapping[str, Any]) -> None:
    scores = metrics.get("scores")
    if not isinstance(scores, dict) or not all(isinstance(value, int | float) for value in scores.values()):
        raise ValueError(f"{METRICS_NAME} holds no scores")
    if not isinstance(metrics.get("versions", {}), dict):
        raise ValueError(f"{METRICS_NAME} names its versions wrongly")
