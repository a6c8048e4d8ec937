"""Real runs of two tiny systems, side by side, stopped and gone on with."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.options import ROOT
from benchmarks.reproduce.child import Child
from benchmarks.reproduce.plan import make_run
from spd_lightning.errors import UsageError
from tests.benchmarks.fabricated import make_system
from tests.cli.conftest import TINY

LONG = 1500
PROGRAM = """
import sys
from benchmarks.reproduce.__main__ import main
from tests.benchmarks.test_reproduce_runs import systems_in
sys.exit(main(sys.argv[2:], systems_in(sys.argv[1])))
"""


def systems_in(folder):
    """Two systems with the same target, and one whose config is wrong."""
    short = yaml.safe_load(TINY)
    del short["trainer"]["enable_progress_bar"]
    long = {**short, "trainer": {**short["trainer"], "max_steps": LONG, "val_check_interval": LONG}}
    broken = {**short, "model": {**short["model"], "leek": "linear"}}
    configs = {"short": (short, (0, 1)), "long": (long, (0,)), "broken": (broken, (0,))}
    return {name: make_system(Path(folder), name, seeds, config) for name, (config, seeds) in configs.items()}


def start(folder, *arguments):
    command = [sys.executable, "-c", PROGRAM, str(folder), "--runs", str(folder / "runs"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("SPD_LIGHTNING_CACHE", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def files_of(runs, name):
    return {path: path.stat().st_mtime_ns for path in runs.rglob(name)}


@pytest.mark.reliability
@pytest.mark.slow
def test_runs_side_by_side_are_stopped_and_gone_on_with(tmp_path):
    runs = tmp_path / "runs"
    log, folder = runs / "long" / "seed_0.log", runs / "long" / "seed_0"
    process = start(tmp_path, "--systems", "short", "long", "--jobs", "2")
    wait_for(lambda: log.is_file() and "step 1/" in log.read_text())  # the longest comes first
    process.send_signal(signal.SIGINT)
    _, written = process.communicate(timeout=120)

    assert process.returncode == 130, written
    assert "long seed 0: stopped" in written
    assert "Traceback" not in written
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not (folder / "metrics.json").exists()
    targets = files_of(tmp_path, "targets/*.safetensors")
    assert len(targets) == 1

    process = start(tmp_path, "--jobs", "3")
    said, written = process.communicate(timeout=240)

    assert process.returncode == 1, written  # because of one that is broken
    assert "broken seed 0: failed: error: " in written
    assert "leek" in written
    assert len(files_of(runs, "metrics.json")) == 3
    assert (folder / "config.resumed-1.yaml").is_file()
    assert json.loads((folder / "metrics.json").read_text())["steps"] == LONG
    times = json.loads((folder / "process.json").read_text())
    assert [(part["jobs"], part["threads"]) for part in times["parts"]] == [(2, 1), (3, 1)]
    assert times["wall_s"] == pytest.approx(sum(part["wall_s"] for part in times["parts"]), abs=0.11)
    assert files_of(tmp_path, "targets/*.safetensors") == targets  # the others had no need to train one
    table = (runs / "results.md").read_text()
    assert "| long |" in table
    assert "failed: error: " in table
    assert str(runs / "results.md") in said

    before = files_of(runs, "metrics.json")
    process = start(tmp_path, "--systems", "short", "long")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert files_of(runs, "metrics.json") == before  # nothing is run again


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path):
    run = make_run(make_system(tmp_path), 0, tmp_path / "runs")
    run.log.parent.mkdir(parents=True)
    with run.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)

        with pytest.raises(UsageError, match=r"another process is making it; see .*seed_0\.log"):
            Child(run, 1, 1)

    assert not run.folder.exists()
    assert run.log.read_bytes() == b""
