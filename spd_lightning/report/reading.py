"""What a report needs from a run directory, whatever is in it."""

import fnmatch
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spd_lightning.runs.record import CONFIG_NAME, METRICS_NAME, RunRecord, read_record

MAX_CONFIG = 200_000
"""Characters of a config that are shown."""
_COMMANDS = ("test", "validate")


def inside(path: Path, folder: Path) -> bool:
    """Whether a path, all links followed, lies in a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def read_run(folder: Path) -> RunRecord:
    """Read a run directory, or the folder that a later ``test`` or ``validate`` wrote; never raises.

    Args:
        folder: the folder, which need not exist. A link in it that leads out of it is not followed.

    Returns:
        The record. A folder of scores without a config counts as finished, with an empty config.
    """
    try:
        for name in (METRICS_NAME, CONFIG_NAME):
            if not inside(folder / name, folder):
                return RunRecord(folder, "damaged", f"{name} is a link that leads out of the run directory")
        alone = (folder / METRICS_NAME).is_file() and not (folder / CONFIG_NAME).exists()
        return _scores_alone(folder) if alone else read_record(folder)
    except (OSError, ValueError, RuntimeError) as error:  # a link to itself; brackets nested beyond all measure
        return RunRecord(folder, "damaged", " ".join(str(error).split()))


def _scores_alone(folder: Path) -> RunRecord:
    metrics = json.loads((folder / METRICS_NAME).read_text())
    scores = mapping(metrics, "scores")
    if not scores or not all(isinstance(value, int | float) for value in scores.values()):
        raise ValueError(f"{METRICS_NAME} holds no scores")
    return RunRecord(folder, "finished", metrics=dict(metrics) | {"versions": mapping(metrics, "versions")})


def quantity(value: Any) -> float | None:
    """A number as a float, infinite if no float is as large; ``None`` for anything else."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def with_floats(record: RunRecord) -> RunRecord:
    """The same record with scores that can be computed with: JSON's whole numbers have no bound."""
    scores = {name: quantity(score) for name, score in record.scores.items()}
    return replace(record, metrics={**record.metrics, "scores": scores})


def run_name(folder: Path) -> str:
    """What to call a run: its folder under that of its experiment, ``tms/version_0``."""
    parts = folder.resolve().parts
    return "/".join(parts[-4:] if len(parts) > 4 and parts[-2] in _COMMANDS else parts[-2:])


def mapping(document: Any, *path: str) -> Mapping[str, Any]:
    """A mapping inside nested ones; an empty one if anything on the way is missing or something else."""
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}


def component_count(record: RunRecord, site: str) -> int | None:
    """Components of a site by the run's config, if it has one."""
    spanning = mapping(record.config, "model").get("n_components")
    if isinstance(spanning, int):
        return spanning
    for pattern, count in mapping(record.config, "model", "sites").items():
        if _is_meant(site, str(pattern)) and isinstance(count, int):
            return count
    return None


def _is_meant(call: str, pattern: str) -> bool:
    """Whether a pattern of the config means the site that a call is of; parts of fused matrices stand in brackets."""
    site = call.partition("@")[0]
    (path, _, part), (wanted, _, wanted_part) = site.partition("["), pattern.partition("[")
    return fnmatch.fnmatchcase(site, pattern) or (part == wanted_part and fnmatch.fnmatchcase(path, wanted))


def feature_count(record: RunRecord) -> int:
    """Features of the target by the run's config, 0 if it states none."""
    count = mapping(record.config, "model", "target", "init_args").get("n_features")
    return count if isinstance(count, int) else 0


def config_text(record: RunRecord) -> str:
    """The run's config as it was written, cut after :data:`MAX_CONFIG` characters; empty without one."""
    path = record.folder / CONFIG_NAME
    try:
        if not path.is_file() or not inside(path, record.folder):
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            content = file.read(MAX_CONFIG + 1)
    except (OSError, RuntimeError):
        return ""
    return content if len(content) <= MAX_CONFIG else f"{content[:MAX_CONFIG]}\n... (cut here)"
