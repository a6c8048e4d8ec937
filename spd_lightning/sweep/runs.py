"""The runs of a sweep and how they stand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from spd_lightning.runs.planned import PlannedRun
from spd_lightning.runs.record import RunRecord
from spd_lightning.sweep.configs import Config, lookup, read_configs
from spd_lightning.sweep.grid import Point, short_keys
from spd_lightning.sweep.plan import SweepPlan

State = Literal["to do", "begun", "finished", "failed", "damaged", "other version", "other config"]
ADDED = "trainer.callbacks+"
LEFT_ALONE: tuple[State, ...] = ("damaged", "other version", "other config")
"""States of run directories that a sweep does not touch."""


@dataclass(frozen=True)
class SweptRun:
    """One point of a sweep.

    Attributes:
        name: of its run directory.
        point: its values by swept key, as given.
        config: the config it is meant to have, plain data.
        planned: where it lies and how it is started.
        checked: dotted keys in which its directory must agree with the config.
    """

    name: str
    point: Point
    config: Config
    planned: PlannedRun
    checked: tuple[str, ...]

    @property
    def record(self) -> RunRecord:
        """What its directory says now."""
        return self.planned.record

    def standing(self, failure: str = "") -> tuple[State, str]:
        """How it stands, and in one line what is wrong with it.

        Args:
            failure: why the last attempt at it failed; empty if none did.
        """
        record = self.record
        if record.state == "damaged":
            return "damaged", record.problem
        for key in self.checked if record.config else ():
            there, planned = lookup(record.config, key), lookup(self.config, key)
            if there != planned:
                return "other config", f"its config.yaml has {key} {there}, the sweep {planned}"
        if record.other_version is not None:
            return "other version", f"made by version {record.other_version}"
        if record.state == "finished":
            return "finished", ""
        if failure:
            return "failed", failure
        return ("to do" if record.state == "absent" else "begun"), ""


def plan_runs(plan: SweepPlan, folder: Path) -> tuple[Config, list[SweptRun]]:
    """The runs of a plan, all values checked; nothing is built or written.

    Args:
        plan: with its configs resolved.
        folder: the sweep's folder.

    Returns:
        The config without any swept value, and the runs in order.

    Raises:
        UsageError: if a key or value is refused.
    """
    points = plan.named_points
    default, configs = read_configs(plan.config_paths, plan.fixed, list(points.values()))
    checked = tuple(key for key in (*plan.fixed, *plan.keys) if not key.endswith("+"))
    runs = []
    for (name, point), config in zip(points.items(), configs, strict=True):
        overrides = {**plan.fixed, **point, ADDED: _callbacks(point, config, plan.fixed.get(ADDED))}
        planned = PlannedRun(folder / name, plan.config_paths, overrides)
        runs.append(SweptRun(name, point, config, planned, checked))
    return default, runs


def _callbacks(point: Point, config: Config, given: str | None) -> str:
    """What is added to a run's callbacks, as YAML: one that tells it its values, before those that a setting adds.

    A value that is not a scalar is reported as text. The order matters: ``trainer.callbacks.x=1`` means the last one
    added.
    """
    values: Mapping[str, bool | int | float | str] = {
        short: value if isinstance(value := lookup(config, key), bool | int | float | str) else point[key]
        for key, short in short_keys(list(point)).items()
    }
    own = {"class_path": "SweptValues", "init_args": {"values": values}}
    added = [] if given is None else yaml.safe_load(given)
    return json.dumps([own, *(added if isinstance(added, list) else [added])])
