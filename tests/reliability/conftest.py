"""Runs that are killed and started again with the same command."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from tests.comparison import scalars
from tests.tiny_system import DATA, LOSSES, MODEL, trainer

ROOT = Path(__file__).parents[2]
TRAINER = (
    trainer(25, 6)
    + """\
  callbacks:
    - {class_path: TrainingLog, init_args: {every_n_steps: 2}}
    - class_path: TensorBoardLayout
    - class_path: InterruptGuard
    - class_path: ComponentActivity
    - {class_path: MechanismRecovery, init_args: {chance_draws: 2}}
    - class_path: ExportDecomposition
    - class_path: tests.reliability.killer.KillAt
    - class_path: FinalReport
    - class_path: HtmlReport
    - {class_path: Checkpoints, init_args: {every_n_train_steps: 4}}
"""
)
LEAN = TRAINER + MODEL + LOSSES + DATA
PLAIN = (
    "scores",
    "settings",
    "seed",
    "steps",
    "processes",
    "device",
    "versions",
)  # not wall_time_s, peak_memory_mb, machine
KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "spd_lightning")


@dataclass
class Process:
    """A command under way."""

    pid: int
    starter: subprocess.Popen

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def code(self):
        """Wait for the end."""
        return int(self.starter.stdout.readline())


@dataclass
class Bench:
    """A working directory with ``lean.yaml``, its own cache, and a command."""

    folder: Path
    starter: subprocess.Popen
    options: tuple = ()
    environment: dict = field(default_factory=dict)

    def start(self, *more, config="lean.yaml", command="fit"):
        environment = {"SPD_LIGHTNING_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp")}
        (self.folder / "tmp").mkdir(exist_ok=True)
        request = {
            "args": [command, "--config", config, *self.options, *more],
            "folder": str(self.folder),
            "environment": environment | self.environment,
        }
        self.starter.stdin.write(json.dumps(request) + "\n")
        self.starter.stdin.flush()
        return Process(int(self.starter.stdout.readline()), self.starter)

    def run(self, *more, **options):
        """Run to the end; returns the exit code."""
        return self.start("--resume=auto", *more, **options).code()

    def killed_at(self, hook, step, *more):
        """Run until the process kills itself there."""
        (self.folder / "kill_at").write_text(f"{hook} {step}")
        code = self.run(*more)
        (self.folder / "kill_at").unlink()
        assert code == -signal.SIGKILL, (hook, step, code, self.log())

    def killed_when(self, condition, timeout=600):
        """Run until something is seen from outside; returns the exit code, 0 if it was over before."""
        process, deadline = self.start("--resume=auto"), time.monotonic() + timeout
        status = Path(f"/proc/{process.pid}/stat")
        while status.exists() and not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return process.code()

    @property
    def last_run(self):
        return max((self.folder / "runs/tiny").glob("version_*"), key=lambda path: int(path.name[8:]))

    def log(self):
        return (self.folder / "log.txt").read_text()


@pytest.fixture(scope="session")
def starter():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.starter"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait(timeout=600)
    process.stdout.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder for files, which is the working directory of whoever opens them."""
    inner = tmp_path / "files"
    inner.mkdir()
    monkeypatch.chdir(inner)
    return inner


@pytest.fixture
def bench(tmp_path, starter):
    return make_bench(tmp_path, starter)


def make_bench(folder, starter, *options, config=LEAN):
    folder.mkdir(exist_ok=True)
    (folder / "lean.yaml").write_text(config)
    return Bench(folder, starter, options)


def results(run):
    """All that must not depend on interruptions."""
    document = json.loads((run / "metrics.json").read_text())
    paths = sorted((run / "checkpoints").iterdir())
    return {
        "artefact": (run / "components.safetensors").read_bytes(),
        "artefact's config": (run / "config.json").read_bytes(),
        "metrics": {name: document[name] for name in PLAIN},
        "scalars": scalars(run),
        "states": {path.name: {name: torch.load(path, weights_only=True)[name] for name in KEPT} for path in paths},
    }


def assert_identical(left, right, where=""):
    """Equal bit for bit, through all containers."""
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, where
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), (where, sorted(map(str, left.keys() ^ right.keys())))
        for key in left:
            assert_identical(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), (where, left, right)
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_identical(a, b, f"{where}/{index}")
    else:
        assert left == right, (where, left, right)
