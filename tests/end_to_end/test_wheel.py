"""The wheel installs into an empty environment and works from an empty directory."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def _run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Interpreter of an environment that holds the wheel and what it needs, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    venv.create(folder / "environment", with_pip=True)
    interpreter = folder / "environment/bin/python"
    (wheel,) = folder.glob("*.whl")
    _run(interpreter, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return interpreter


@pytest.fixture
def environment(tmp_path):
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SPD_LIGHTNING_CACHE": str(tmp_path / "cache")}


def test_fit_from_an_empty_directory(python, environment, tmp_path):
    steps = ["--trainer.max_steps=20", "--trainer.val_check_interval=10"]

    output = _run(python, "-m", "spd_lightning", "fit", "--config", "tms.yaml", *steps, cwd=tmp_path, env=environment)

    assert "MMCS (chance)" in output
    assert (tmp_path / "runs/tms/version_0/components.safetensors").is_file()


def test_all_rooms_are_shipped(python, environment, tmp_path):
    code = "import callbacks, spd_lightning; print(callbacks.__file__, spd_lightning.__file__)"

    places = _run(python, "-c", code, cwd=tmp_path, env=environment).split()

    assert all("site-packages" in place for place in places)
    shipped = Path(places[1]).parent / "configs"
    ours = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml"))
    assert sorted(path.relative_to(shipped) for path in shipped.rglob("*.yaml")) == ours
