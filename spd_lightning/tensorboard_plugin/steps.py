"""Validations whose arrays a run kept."""

import os
import re
from pathlib import Path

from spd_lightning.report.reading import inside
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.tensorboard_plugin.run_files import RunFiles

MAX_STEPS = 1000
_NAME = re.compile(r"step=(\d{1,10})")


def step_folder(run: RunFiles, step: int) -> Path:
    """Where the arrays of the validation at a step lie."""
    return run.folder / FOLDER / "steps" / f"step={step}"


def steps_of(run: RunFiles, name: str) -> list[int]:
    """Steps whose validation left a file of this name, in order; the last thousand."""
    folder = run.folder / FOLDER / "steps"
    try:
        names = os.listdir(folder) if inside(folder, run.folder) else []
    except (OSError, RuntimeError):
        return []
    found = (_NAME.fullmatch(one) for one in names)
    steps = sorted(int(one[1]) for one in found if one and one[0] == f"step={int(one[1])}")
    return [step for step in steps[-MAX_STEPS:] if run.has(FOLDER, "steps", f"step={step}", name)]
