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

IN_SHARES = ["second batch", "half of the first part", "before the end"]


@pytest.mark.parametrize(
    ("name", "processes", "moments"),
    [("toy_run", 1, list(MOMENTS)), ("language_run", 1, ["rows"]), ("toy_run", 2, IN_SHARES)],
)
def test_one_that_is_killed_and_gone_on_with_leaves_the_same_bytes(name, processes, moments, request, tmp_path):
    run = str(request.getfixturevalue(name))
    command = [sys.executable, "-m", "tests.analysis.killed_harvests"]
    command += [run, str(tmp_path / "tries"), str(processes), *moments]
    given = {"SPD_LIGHTNING_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=os.environ | given, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [*moments, "one after the other"]
    for moment, one in found.items():
        assert -signal.SIGKILL in one["codes"], moment
        assert one["codes"][-1] == 0, (moment, done.stderr)
        assert one["differing"] == [], moment
        assert one["left"] == ["harvest.jsonl", "harvest.safetensors"], moment
    assert found["one after the other"]["codes"].count(-signal.SIGKILL) >= 5


def test_rows_that_are_not_of_a_harvest_are_left_alone(toy_run, capsys):
    (toy_run / "analysis").mkdir()
    (toy_run / "analysis/harvest.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", str(toy_run)])
    assert stopped.value.code == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert (toy_run / "analysis/harvest.jsonl").read_text() == "mine\n"
