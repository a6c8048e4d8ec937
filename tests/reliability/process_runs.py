"""Commands of one or several processes, in folders of their own, and what they leave behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

REPOSITORY = Path(__file__).parent.parent.parent
LONGEST = 1500  # seconds; a hang is a failure, a slow machine is not
CALLBACKS = """\
import os
import signal

import torch
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


class Weighs(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trained = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
        moments = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
        kept = [*trained, *(parameter.grad for parameter in trained), *moments]
        own = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in kept]
        with open(f"held-{trainer.global_rank}", "w") as file:
            file.write(str(sum(tensor.nbytes for tensor in own)))


class Spoils(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and batch_idx == 5:
            batch.x[-1, 0] = float("nan")
"""


PAPER = {
    "faithfulness": {"class_path": "Faithfulness"},
    "stochastic": {"class_path": "Reconstruction"},
    "layerwise": {"class_path": "Reconstruction", "init_args": {"routing": "layerwise"}},
    "importance": {"class_path": "ImportanceMinimality", "init_args": {"coefficient": 3e-3}},
}


def config(steps=200, losses=PAPER, **data):
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
                {"class_path": "TrainingLog", "init_args": {"every_n_steps": 10}},
                {"class_path": "MechanismRecovery", "init_args": {"chance_draws": 2}},
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
        (path / "faulty.py").write_text(CALLBACKS)

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
        process = self.start("fit", "--config", "tiny.yaml", *several(processes), *args)
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

    def extended(self, callback: str) -> tuple[str, ...]:
        """Options that add one of the callbacks above."""
        (self.path / "faulty.yaml").write_text(f"trainer:\n  callbacks+:\n    - {callback}\n")
        return "--config", "faulty.yaml"

    def losses(self) -> list:
        """Everything that training logged, in order."""
        with self.logged.open() as file:
            rows = list(csv.DictReader(file))
        return [float(row[name]) for row in rows for name in sorted(row) if name.startswith("train/") and row[name]]

    def files(self) -> list:
        """Names of all files but those that carry the time and the number of the process."""
        names = [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]
        return sorted(name for name in names if "tfevents" not in name and "__pycache__" not in name)


def several(processes: int) -> list[str]:
    return ["--trainer.devices", str(processes), "--trainer.strategy", "ddp"] if processes > 1 else []


def wait_for(path: Path) -> None:
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < LONGEST, f"{path} never came"
        time.sleep(0.1)


def alive(group: int) -> bool:
    """Whether anything of a process group still runs, after a moment to go."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.2)
    os.killpg(group, signal.SIGKILL)
    return True
