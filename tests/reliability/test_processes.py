"""``--trainer.devices N --trainer.strategy ddp`` gives the losses, weights, scores and files of one process."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

REPOSITORY = Path(__file__).parent.parent.parent
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
"""Sums in another order differ by one rounding, 6e-8 of their size. Adam divides gradients by their size, so that an
entry whose gradient is all rounding may move by the learning rate, 3e-3, in either direction; others keep to roundings.
Found are 5e-7 after 200 steps."""
LONGEST = 1500  # seconds; a hang is a failure, a slow machine is not
DIES = """\
import os
import signal

from lightning.pytorch import Callback


class Dies(Callback):
    def __init__(self, rank: int, how: str) -> None:
        self.rank, self.how = rank, how

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == self.rank and batch_idx == 5:
            open("died", "w").close()
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("this process has had enough")
"""


def _config(steps=200, losses=None, **data):
    return {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": steps,
            "val_check_interval": min(steps, 1000),
            "enable_progress_bar": False,
            "logger": [
                {
                    "class_path": f"lightning.pytorch.loggers.{kind}",
                    "init_args": {"save_dir": "runs", "name": name},
                }
                for kind, name in (("TensorBoardLogger", "tiny"), ("CSVLogger", "losses"))
            ],
            "callbacks+": [
                {"class_path": "callbacks.TrainingLog", "init_args": {"every_n_steps": 10}},
                {"class_path": "callbacks.MechanismRecovery", "init_args": {"chance_draws": 2}},
            ],
        },
        "model": {
            "target": {"class_path": "ToyModelOfSuperposition", "init_args": {"n_features": 5, "n_hidden": 2}},
            "recipe": {"class_path": "FeatureTraining", "init_args": {"steps": 300, "batch_size": 128, "lr": 2e-2}},
            "sites": {"linear*": 8},
            "ties": {"linear2": "linear1"},
            "warmup": {"steps": 50},
            "optimization": {"lr": 3e-3},
            **({"losses": losses} if losses else {}),
        },
        "data": {
            "class_path": "SparseFeatures",
            "init_args": {"n_features": 5, "batch_size": 515, "val_batches": 2, "val_batch_size": 101, **data},
        },
    }


class Folder:
    """A working folder with commands that are run there as real processes."""

    def __init__(self, path: Path, config: dict) -> None:
        self.path = path
        path.mkdir()
        (path / "tiny.yaml").write_text(yaml.safe_dump(config))
        (path / "dies.py").write_text(DIES)

    def start(self, *args: str) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
        environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "SPD_LIGHTNING_CACHE": str(self.path.parent / "cache"),
        }
        command = [sys.executable, "-m", "spd_lightning", *args]
        with (self.path.parent / "said.txt").open("w") as said:
            return subprocess.Popen(
                command, cwd=self.path, env=environment, stdout=said, stderr=said, start_new_session=True
            )

    def finish(self, process: "subprocess.Popen[bytes]", within: float = LONGEST) -> str:
        """What a process printed; a process that is not done in time is killed with all it started."""
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"still running after {within} s: {self._said()[-2000:]}")
        return self._said()

    def _said(self) -> str:
        return (self.path.parent / "said.txt").read_text()

    def fit(self, processes: int = 1, *args: str) -> str:
        process = self.start("fit", "--config", "tiny.yaml", *_several(processes), *args)
        said = self.finish(process)
        assert process.returncode == 0, said[-3000:]
        return said

    @property
    def run(self) -> Path:
        return self.path / "runs" / "tiny" / "version_0"

    @property
    def logged(self) -> Path:
        return self.path / "runs" / "losses" / "version_0" / "metrics.csv"

    def weights(self) -> dict:
        return load_file(self.run / "components.safetensors")

    def scores(self) -> dict:
        return json.loads((self.run / "metrics.json").read_text())["scores"]

    def losses(self) -> list:
        """Everything that training logged, in order."""
        rows = csv.DictReader(self.logged.open())
        return [float(row[name]) for row in rows for name in sorted(row) if name.startswith("train/") and row[name]]

    def files(self) -> list:
        """Names of all files but those that carry the time and the number of the process."""
        names = [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]
        return sorted(name for name in names if "tfevents" not in name and "__pycache__" not in name)


def _several(processes: int) -> list[str]:
    return ["--trainer.devices", str(processes), "--trainer.strategy", "ddp"] if processes > 1 else []


def _assert_same(several: Folder, one: Folder) -> None:
    torch.testing.assert_close(several.weights(), one.weights(), **TOLERANCE)
    assert len(one.losses()) > 10
    torch.testing.assert_close(several.losses(), one.losses(), rtol=1e-3, atol=1e-6)
    assert several.scores().keys() == one.scores().keys()
    assert several.files() == one.files()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("processes") / "one", _config())
    folder.fit()
    return folder


@pytest.fixture(scope="module")
def two(one):
    folder = Folder(one.path.parent / "two", _config())
    folder.said = folder.fit(2)
    return folder


def test_two_processes_are_one_computation(two, one):
    _assert_same(two, one)


def test_scores_are_counted_over_all_processes(two, one):
    """L0 and distances are means over the examples of both; the number alive is no sum."""
    for name, score in one.scores().items():
        assert two.scores()[name] == pytest.approx(score, rel=1e-3, abs=1e-6), name


def test_everything_is_written_and_said_once(two):
    assert json.loads((two.run / "metrics.json").read_text())["processes"] == 2
    assert len(list(two.run.glob("events*"))) <= 2  # of training and of the test that follows
    assert two.said.count("output distance from the target under") == 1
    assert "Warning" not in two.said
    assert "sync_dist" not in two.said


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param("raises", "this process has had enough", marks=pytest.mark.reliability),
        ("killed", "code -9"),
    ],
)
def test_a_process_that_dies_ends_the_run(how, said, tmp_path):
    folder = Folder(tmp_path / "dies", _config(steps=100_000))
    callback = f"{{class_path: dies.Dies, init_args: {{rank: 1, how: {how}}}}}"
    (folder.path / "dies.yaml").write_text(f"trainer:\n  callbacks+:\n    - {callback}\n")
    process = folder.start("fit", "--config", "tiny.yaml", "--config", "dies.yaml", *_several(2))

    _wait_for(folder.path / "died")
    printed = folder.finish(process, within=60)

    assert process.returncode != 0
    assert said in printed
    assert not _alive(process.pid)


def _wait_for(path: Path) -> None:
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < LONGEST, f"{path} never came"
        time.sleep(0.1)


def _alive(group: int) -> bool:
    """Whether anything of a process group still runs, after a moment to go."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.2)
    os.killpg(group, signal.SIGKILL)
    return True


ALL = {
    "every loss": {
        "faithfulness": {"class_path": "Faithfulness"},
        "stochastic": {"class_path": "Reconstruction"},
        "adversary": {"class_path": "Reconstruction", "init_args": {"sources": "adversarial", "coefficient": 0.1}},
        "subset": {"class_path": "Reconstruction", "init_args": {"sources": "binomial", "routing": "subset"}},
        "importance": {"class_path": "ImportanceMinimality", "init_args": {"coefficient": 3e-3, "p": 0.9}},
        "frequency": {"class_path": "FrequencyMinimality", "init_args": {"coefficient": 1e-3}},
    },
    "the paper's": None,
}


@pytest.mark.reliability
@pytest.mark.parametrize("losses", ALL)
@pytest.mark.parametrize(
    ("processes", "options"),
    [
        (4, []),
        (2, ["--model.init", "examples"]),
        (2, ["--model.tied_updates", "twice"]),
        (2, ["--model.speed.step", "plain", "--data.merge_empty", "false"]),
        (2, ["--trainer.accumulate_grad_batches", "3"]),
    ],
    ids=["four", "examples", "twice", "plain", "accumulated"],
)
def test_any_number_of_processes_is_one_computation(processes, options, losses, tmp_path):
    folders = [Folder(tmp_path / str(count), _config(losses=ALL[losses])) for count in (1, processes)]
    for folder, count in zip(folders, (1, processes), strict=True):
        folder.fit(count, *options)

    _assert_same(folders[1], folders[0])


@pytest.mark.reliability
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [True, False], ids=["the group", "one process"])
def test_interrupted_processes_stop_after_the_same_step_and_go_on(number, everyone, tmp_path):
    folder = Folder(tmp_path / "stopped", _config(steps=100_000))
    process = folder.start("fit", "--config", "tiny.yaml", *_several(2))
    _wait_for(folder.logged)
    os.killpg(process.pid, number) if everyone else os.kill(process.pid, number)

    printed = folder.finish(process, within=60)

    assert process.returncode == 130, printed[-2000:]
    assert not _alive(process.pid)
    stopped = torch.load(folder.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    folder.fit(1, "--ckpt_path", "last", "--trainer.max_steps", str(stopped + 5))
