"""The wheel installs into an empty environment and works from an empty directory."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from urllib.request import urlopen

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
    code = """
import importlib.util
import spd_lightning, spd_lightning.callbacks
print(spd_lightning.callbacks.__file__, spd_lightning.__file__, importlib.util.find_spec("callbacks"))
"""

    callbacks, package, top_level = _run(python, "-c", code, cwd=tmp_path, env=environment).split()

    assert "site-packages" in package
    rooms = Path(package).parent
    assert Path(callbacks) == rooms / "callbacks/__init__.py"
    assert top_level == "None"
    for ours, shipped, kind in [(ROOT / "configs", rooms / "configs", "*.yaml"), *_rooms(rooms)]:
        names = sorted(path.relative_to(ours) for path in ours.rglob(kind))
        assert names
        assert sorted(path.relative_to(shipped) for path in shipped.rglob(kind)) == names


def _rooms(shipped):
    for room in (ROOT / "spd_lightning").glob("*/__init__.py"):
        yield room.parent, shipped / room.parent.name, "*.py"


def test_tensorboard_finds_the_tab_by_itself(python, environment, tmp_path):
    (tmp_path / "runs/own/version_0/analysis").mkdir(parents=True)
    command = [python, "-m", "tensorboard.main", "--logdir", "runs", "--port", "0"]

    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            told = iter(server.stderr.readline, "")
            address = next(found[0] for line in told if (found := re.search(r"http://\S+/", line)))
            plugin = json.loads(_served(f"{address}data/plugins_listing"))["spd_components"]
            runs = json.loads(_served(f"{address}data/plugin/spd_components/runs"))["runs"]
            pages = {path: _served(f"{address}data/plugin/spd_components/static/{path.name}") for path in PAGES}
        finally:
            server.kill()

    assert (plugin["tab_name"], plugin["enabled"]) == ("Components", True)
    assert [run["id"] for run in runs] == ["own/version_0"]
    assert {path.suffix for path in pages} == {".js", ".css"}
    assert all(path.read_bytes() == served for path, served in pages.items())


PAGES = [path for path in (ROOT / "spd_lightning/tensorboard_plugin/static").iterdir() if path.is_file()]
"""What the tab is made of in the browser."""


def _served(address):
    with urlopen(address) as answer:
        return answer.read()


@pytest.mark.reliability
def test_a_folder_callbacks_is_the_user_s_own(python, environment, tmp_path):
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks/__init__.py").write_text(
        """
from pathlib import Path
from spd_lightning.callbacks import EvaluationCallback


class Note(EvaluationCallback):
    def on_fit_end(self, trainer, decomposition):
        Path("note.txt").write_text(f"{type(self).__module__} {trainer.global_step}")
"""
    )
    config = tmp_path / "own.yaml"
    config.write_text("trainer:\n  callbacks+:\n    - class_path: callbacks.Note\n")
    command = ["-m", "spd_lightning", "fit", "--config", "tms.yaml", "--config", config]

    _run(python, *command, "--trainer.max_steps=2", "--trainer.val_check_interval=2", cwd=tmp_path, env=environment)

    assert (tmp_path / "note.txt").read_text() == "callbacks 2"
