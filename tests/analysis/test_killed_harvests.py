"""Harvests that are killed and gone on with leave the bytes of one that was left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spd_lightning.analysis.__main__ import main
from tests.analysis.killed_harvests import MOMENTS


@pytest.mark.parametrize(("name", "moments"), [("toy_run", list(MOMENTS)), ("language_run", ["rows"])])
def test_one_that_is_killed_and_gone_on_with_leaves_the_same_bytes(name, moments, request, tmp_path):
    run = request.getfixturevalue(name)
    command = [sys.executable, "-m", "tests.analysis.killed_harvests", str(run), str(tmp_path / "tries"), *moments]
    given = {"SPD_LIGHTNING_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=os.environ | given, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [*moments, "one after the other"]
    for moment, one in found.items():
        assert one["codes"][0] == -signal.SIGKILL, moment
        assert one["codes"][-1] == 0, (moment, done.stderr)
        assert one["differing"] == [], moment
        assert one["left"] == ["harvest.jsonl", "harvest.safetensors"], moment
    assert found["one after the other"]["codes"][:-1].count(-signal.SIGKILL) >= 5


def test_rows_that_are_not_of_a_harvest_are_left_alone(toy_run, capsys):
    (toy_run / "analysis").mkdir()
    (toy_run / "analysis/harvest.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", str(toy_run)])
    assert stopped.value.code == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert (toy_run / "analysis/harvest.jsonl").read_text() == "mine\n"


def test_several_processes_are_refused(toy_run, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", str(toy_run)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: harvest runs in one process, got WORLD_SIZE='2'; start it without torchrun\n"
    )
    assert not (toy_run / "analysis").exists()
