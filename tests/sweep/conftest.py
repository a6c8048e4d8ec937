"""Sweeps as a user types them, over a tiny system in a folder of its own."""

import gc
import logging
import shutil
import threading
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer

from spd_lightning.sweep.command import main
from tests.tiny_system import DATA, MODEL, trainer

COEFFICIENT = "model.losses.importance.coefficient"
TRAINER = (
    trainer(6, 3)
    + """\
  callbacks:  # those that draw are left out: pictures take longer than everything else
    - class_path: InterruptGuard
    - class_path: ComponentActivity
    - {class_path: MechanismRecovery, init_args: {chance_draws: 2}}
    - class_path: ExportDecomposition
    - class_path: FinalReport
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {every_n_train_steps: 1000, save_last: true, enable_version_counter: false}
"""
)
LOSSES = """\
  losses:
    faithfulness: {class_path: Faithfulness}
    stochastic: {class_path: Reconstruction}
    importance: {class_path: ImportanceMinimality, init_args: {coefficient: 1.0e-3, p: 1.0}}
"""
LEAN = TRAINER + MODEL + LOSSES + DATA
"""A config whose runs take a moment."""

GRID = ("--over", f"{COEFFICIENT}=1e-3,1e-1", "seed_everything=0,1")


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder that holds ``tiny.yaml``; targets are cached for the session."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(LEAN)
    yield folder
    patch.undo()


@pytest.fixture(autouse=True)
def _inside(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sweep(place, tmp_path, capsys):
    """Run the command with ``tiny.yaml``; returns exit code, output and what was left."""

    def command(*args, config=True):
        capsys.readouterr()
        code = main([*(["--config", str(place / "tiny.yaml")] if config else []), *args])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, folder=tmp_path / "runs/sweeps")

    return command


def _trainers():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Trainer]


def _leftovers(earlier):
    """Trainers that earlier tests have not left behind, handlers of logs, threads."""
    trainers = sum(not any(trainer is other for other in earlier) for trainer in _trainers())
    handlers = [len(logging.getLogger(name).handlers) for name in (None, "lightning.pytorch", "lightning.fabric")]
    threads = sorted(thread.name for thread in threading.enumerate() if thread.name != "tqdm_monitor")
    return trainers, threads, handlers


@pytest.fixture(scope="session")
def _finished(place):
    """The grid above, done once for all tests."""
    patch = pytest.MonkeyPatch()
    patch.chdir(place)
    earlier = _trainers()
    before = _leftovers(earlier)
    code = main(["--config", "tiny.yaml", *GRID, "--name", "done"])
    patch.undo()
    return SimpleNamespace(code=code, folder=place / "runs/sweeps/done", leftovers=(before, _leftovers(earlier)))


@pytest.fixture
def finished(_finished):
    """The finished sweep itself; to be looked at only."""
    return _finished


@pytest.fixture
def copy(_finished, tmp_path):
    """A copy of the finished sweep, where the command looks for one named ``done``."""
    return shutil.copytree(_finished.folder, tmp_path / "runs/sweeps/done")
