"""A user's own ``callbacks`` in the working directory, which comes before the package's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("hiding", ["callbacks/__init__.py", "callbacks.py"])
@pytest.mark.parametrize("command", ["spd_lightning", "spd_lightning.sweep"])
def test_it_is_refused_in_one_line(tmp_path, hiding, command):
    (tmp_path / hiding).parent.mkdir(exist_ok=True)
    (tmp_path / hiding).touch()
    ended = _help_of(command, tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: callbacks: {tmp_path / hiding} hides the package")
    assert ended.stderr.count("\n") == 1


def test_a_folder_that_is_no_package_hides_nothing(tmp_path):
    (tmp_path / "callbacks").mkdir()
    ended = _help_of("spd_lightning", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def _help_of(command, folder):
    return subprocess.run(
        [sys.executable, "-m", command, "--help"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
