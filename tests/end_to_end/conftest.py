"""One complete run of the shipped toy model, as a user starts it."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class FinishedRun:
    """A run directory, what the command printed and how long it took."""

    folder: Path
    output: str
    seconds: float


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> FinishedRun:
    """``fit --config tms.yaml`` from an empty directory, with an empty cache."""
    empty = tmp_path_factory.mktemp("empty")
    environment = {**os.environ, "SPD_LIGHTNING_CACHE": str(tmp_path_factory.mktemp("cache"))}
    began = time.monotonic()
    command = [sys.executable, "-m", "spd_lightning", "fit", "--config", "tms.yaml"]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return FinishedRun(empty / "runs/tms/version_0", done.stdout, time.monotonic() - began)
