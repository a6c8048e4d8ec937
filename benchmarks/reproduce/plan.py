"""The runs: where they lie, what is known about them, and why one must be left alone."""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.reproduce.agreement import contradiction
from benchmarks.reproduce.job import Job
from benchmarks.reproduce.systems import System
from spd_lightning.cli.arguments import find_config
from spd_lightning.errors import UsageError
from spd_lightning.files.version import library_version
from spd_lightning.runs.planned import PlannedRun
from spd_lightning.runs.record import RunRecord
from spd_lightning.sweep.grid import SEED


@dataclass(frozen=True, eq=False)
class Run(Job):
    """One system with one seed.

    Attributes:
        system: what is decomposed, and how.
        seed: of everything but the target.
        planned: its run directory and command.
    """

    system: System
    seed: int
    planned: PlannedRun

    @property
    def name(self) -> str:
        """System and seed in words."""
        return f"{self.system.name} seed {self.seed}"

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return int(read_config(self.system.config).get("trainer", {}).get("max_steps") or _base_steps())

    @property
    def expected_s(self) -> float:
        """Rough seconds of the whole run."""
        return self.steps * self.system.step_ms / 1000

    @property
    def target(self) -> str:
        """What tells targets and their training apart."""
        model = read_config(self.system.config).get("model", {})
        return json.dumps([model.get("target"), model.get("recipe")], sort_keys=True)

    @property
    def obstacle(self) -> str:
        """Why it can neither be used nor continued, and the way out, in one line; empty if nothing is in the way."""
        try:
            config = read_config(self.system.config)
        except UsageError as error:
            return str(error)
        return unusable(self.record, config, self.seed)


def runs_of(systems: Iterable[System], seeds: Iterable[int], folder: Path) -> list[Run]:
    """Every system with every seed.

    Args:
        systems: the systems.
        seeds: of each; empty for its own.
        folder: where all run directories lie.

    Returns:
        The runs, system by system.
    """
    chosen = tuple(seeds)
    return [make_run(system, seed, folder) for system in systems for seed in chosen or system.seeds]


def make_run(system: System, seed: int, folder: Path) -> Run:
    """One run, by its place: ``folder/SYSTEM/seed_N``."""
    place = folder / system.name / f"seed_{seed}"
    return Run(system, seed, PlannedRun(place, (system.config,), {SEED: str(seed)}))


def found_runs(systems: Iterable[System], folder: Path) -> list[Run]:
    """Runs that left anything behind, by system and seed."""
    found = []
    for system in systems:
        names = {path.name.removesuffix(".log") for path in (folder / system.name).glob("seed_*")}
        numbers = sorted(int(name[5:]) for name in names if name[5:].isdecimal())
        found += [make_run(system, seed, folder) for seed in numbers]
    return found


def unusable(record: RunRecord, config: Mapping[str, Any], seed: int) -> str:
    """Why what is in a run directory is not the run that is wanted, and the way out.

    Args:
        record: of the directory.
        config: content of a config, all of it or in part.
        seed: the wanted one.

    Returns:
        One line; empty if it can be used, or gone on with.
    """
    reason = _other(record, config, seed)
    return f"{reason}; move or remove {shown(record.folder)} to run it again" if reason else ""


def _other(record: RunRecord, config: Mapping[str, Any], seed: int) -> str:
    if record.state == "absent":
        return ""
    if record.state == "damaged":
        return f"its directory is damaged ({record.problem})"
    if record.other_version is not None:
        return f"it was made by version {record.other_version}, this is {library_version()}"
    differs = contradiction({**config}, record.config)
    if not differs and record.config.get(SEED) != seed:
        differs = f"{SEED} {record.config.get(SEED)} in the run, {seed} in its name"
    return f"it was made with other settings ({differs})" if differs else ""


@functools.cache
def read_config(name: str) -> dict[str, Any]:
    """Content of a config, found as ``--config`` finds it.

    Raises:
        UsageError: if it does not exist or holds no mapping.
    """
    path = find_config(name)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"config {name!r} cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UsageError(f"config {name!r} holds no mapping")
    return content


def _base_steps() -> int:
    return int(read_config("base.yaml")["trainer"]["max_steps"])


def shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
