"""A long run costs no more at its end than at its beginning."""

import json
import shutil
import statistics
import sys
from pathlib import Path

import pytest

from tests.reliability.faulty_runs import FIT, open_everything, run, write_config

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")


def _soak(folder, steps, validate, record, plain=False):
    write_config(folder, plain)
    command = [
        *FIT,
        f"--trainer.max_steps={steps}",
        f"--trainer.val_check_interval={validate}",
        "--trainer.callbacks+=tests.reliability.soak_recorder.SoakRecorder",
        f"--trainer.callbacks.every_n_steps={record}",
    ]
    ended = run(command, folder, timeout=1500)
    assert ended.code == 0, ended.lines[-3:]
    return [json.loads(line) for line in (folder / "soak.jsonl").read_text().splitlines()]


def _slope(lines, name):
    """Growth per 1000 steps, by least squares over the second half: caches fill at the beginning."""
    late = lines[len(lines) // 2 :]
    fit = statistics.linear_regression([line["step"] / 1000 for line in late], [line[name] for line in late])
    return fit.slope


def _told(lines):
    memory, files = _slope(lines, "memory_mb"), {line["files"] for line in lines[len(lines) // 2 :]}
    half = len(lines) // 2
    early, late = (min(line["step_ms"] for line in part) for part in (lines[:half], lines[half:]))
    per_step = (lines[-1]["events"] - lines[0]["events"]) / (lines[-1]["step"] - lines[0]["step"])
    sys.stdout.write(
        f"memory {lines[-1]['memory_mb']:.0f} MB, {1000 * memory:+.1f} kB per 1000 steps; open files {sorted(files)}; "
        f"events {per_step:.1f} B a step; step {early:.3f} ms early, {late:.3f} ms late\n"
    )
    return memory, files, per_step, late / early


@pytest.mark.reliability
def test_two_thousand_steps(tmp_path):
    """Without analyses, a checkpoint every 10 steps."""
    memory, files, per_step, drift = _told(_soak(tmp_path, steps=2000, validate=500, record=50, plain=True))

    assert memory < 4  # MB per 1000 steps; the long form is the strict one
    assert max(files) - min(files) <= 3
    assert per_step < 500
    assert drift < 1.5


@pytest.mark.reliability
def test_a_hundred_thousand_steps(tmp_path):
    """With a validation and its pictures every 2000 steps, a checkpoint every 1000."""
    lines = _soak(tmp_path, steps=100_000, validate=2000, record=1000)
    memory, files, per_step, drift = _told(lines)

    assert memory < 0.1, "more than 10 MB in 100 000 steps"
    assert max(files) - min(files) <= 3
    assert {line["threads"] for line in lines[5:]} <= set(range(max(lines[5]["threads"] + 2, 4)))
    assert per_step < 100
    assert drift < 1.2
    assert open_everything(tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs")
