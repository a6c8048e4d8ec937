"""Real commands in folders of their own, under limits, and a look at what they leave behind."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tests.tiny_system import trainer

ROOT = Path(__file__).parents[2]
FIT = [sys.executable, "-m", "spd_lightning", "fit", "--config", "tiny.yaml"]
TINY = (
    trainer(40, 10)
    + """\
model:
  target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 3, n_hidden: 3}}
  sites: {linear*: 4}
  ties: {linear2: linear1}
  importance: {class_path: PerSite, init_args: {function: {class_path: GateMLP, init_args: {hidden: [3]}}}}
data:
  class_path: SparseFeatures
  init_args: {n_features: 3, batch_size: 16, val_batches: 1, val_batch_size: 8, feature_probability: 0.3}
"""
)
PLAIN = """
  callbacks:
    - class_path: WholeFiles
    - class_path: InterruptGuard
    - class_path: TrainingLog
      init_args: {every_n_steps: 5}
    - class_path: Checkpoints
      init_args: {every_n_train_steps: 10}
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    lines: list[str]


def write_config(folder: Path, plain: bool = False) -> None:
    """Write ``tiny.yaml``; ``plain`` leaves out every analysis."""
    (folder / "tiny.yaml").write_text(TINY.replace("\nmodel:", PLAIN + "model:") if plain else TINY)


def environment(folder: Path) -> dict[str, str]:
    """This process's, with the code under test and a cache inside the folder."""
    own = {"PYTHONPATH": str(ROOT), "SPD_LIGHTNING_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return os.environ | own


def run(
    command: list[str], folder: Path, before: str = "", after: str = "", mounting: bool = False, timeout: float = 900
) -> Ended:
    """Run a command; ``before`` and ``after`` are lines of shell around it, in a mount namespace if need be."""
    script = f"{before}\n{shlex.join(command)}\ncode=$?\n{after}\nexit $code"
    shell = [*(["unshare", "-rm"] if mounting else []), "bash", "-c", script]
    done = subprocess.run(shell, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=timeout)
    return Ended(done.returncode, [line for line in done.stderr.splitlines() if line.strip()])


def needs_mounting() -> None:
    """Skip where a process may not mount a file system of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command here, so no small disk can be mounted")
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no small disk can be mounted here ({tried.stderr.strip()})")


def refused_in_one_line(ended: Ended, *parts: str) -> None:
    """Assert a one-line refusal with exit code 2 that contains the parts."""
    errors = [line for line in ended.lines if not line.startswith(("warning: ", "notice: "))]
    assert ended.code == 2, ended
    assert len(errors) == 1, ended
    assert errors[0].startswith("error: "), ended
    assert all(part in errors[0] for part in parts), errors


def open_everything(folder: Path) -> list[Path]:
    """Read every file to its end by its own format; a half-written one raises. Returns the files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if path.suffix == ".ckpt":
            assert "state_dict" in torch.load(path, weights_only=True)
        elif path.suffix == ".safetensors":
            assert load_file(path)
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.suffix == ".yaml" and path.name != "hparams.yaml":
            assert yaml.safe_load(path.read_text())["model"]
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
    return files


def asides(folder: Path) -> list[Path]:
    """Files that were being written."""
    return [path for path in folder.rglob(".*.*") if path.is_file() and path.name.count(".") > 2]
