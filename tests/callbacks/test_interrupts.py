"""Ctrl-C and SIGTERM, as signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from spd_lightning import UsageError
from spd_lightning.callbacks import InterruptGuard
from spd_lightning.cli.command import main
from tests.methods.tiny import Batches, features, fit, toy
from tests.tiny_system import trainer

LONG = (
    trainer(1000000, 20)
    + """\
model:
  target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 3, n_hidden: 3}}
  sites: {linear*: 4}
  recipe:
    class_path: FeatureTraining
    init_args: {steps: 400, batch_size: 128, lr: 2.0e-2, feature_probability: 0.3, weight_decay: 0.0}
data:
  class_path: SparseFeatures
  init_args: {n_features: 3, batch_size: 16, val_batches: 1, val_batch_size: 8, feature_probability: 0.3}
"""
)


class PressAt(Callback):
    """Presses Ctrl-C, or sends another signal, in the middle of given steps."""

    def __init__(self, *steps, times=1, number=signal.SIGINT):
        self.steps, self.times, self.number = steps, times, number

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step in self.steps:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_running_step_is_finished_and_saved(number, tmp_path):
    before, guard, module = signal.getsignal(number), InterruptGuard(), toy()
    press = PressAt(2, number=number)
    # asked for, so that there is a folder; it would write nothing by itself
    checkpoints = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1000)

    trainer = fit(
        module, features(), tmp_path, max_steps=9, callbacks=[press, guard, checkpoints], enable_checkpointing=True
    )

    assert guard.interrupted
    assert trainer.global_step == 3
    assert signal.getsignal(number) is before
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3
    assert all(torch.equal(tensor, state["state_dict"][name]) for name, tensor in module.state_dict().items())


def test_sigterm_can_be_left_to_lightning(tmp_path):
    guard, press = InterruptGuard(sigterm=False), PressAt(2, number=signal.SIGTERM)

    with pytest.raises(SIGTERMException):
        fit(toy(), features(), tmp_path, max_steps=9, callbacks=[press, guard])

    assert not guard.interrupted


def test_a_run_that_keeps_no_checkpoints_stops_as_well(tmp_path):
    guard = InterruptGuard()

    trainer = fit(toy(), features(), tmp_path, max_steps=9, callbacks=[PressAt(2), guard])

    assert (guard.interrupted, trainer.global_step) == (True, 3)
    assert list(tmp_path.iterdir()) == []


def test_the_second_time_stops_at_once(tmp_path):
    before, guard = signal.getsignal(signal.SIGINT), InterruptGuard()
    done = []

    class Count(Callback):
        def on_train_batch_end(self, trainer, *_):
            done.append(trainer.global_step)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(toy(), features(), tmp_path, max_steps=9, callbacks=[PressAt(2, times=2), guard, Count()])

    assert done == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_fails_gives_ctrl_c_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    bad = Batches(torch.rand(4, 5), torch.full((4, 5), float("nan")))

    with pytest.raises(UsageError, match="became nan"):
        fit(toy(), bad, tmp_path, callbacks=[InterruptGuard()])

    assert signal.getsignal(signal.SIGINT) is before


def test_a_guard_serves_again_after_an_interrupted_run(tmp_path):
    guard = InterruptGuard()
    fit(toy(), features(), tmp_path, max_steps=9, callbacks=[PressAt(2), guard])

    trainer = fit(toy(), features(), tmp_path, max_steps=5, callbacks=[guard])

    assert (guard.interrupted, trainer.global_step) == (False, 5)


def test_without_ctrl_c_the_run_is_complete(tmp_path):
    guard = InterruptGuard()

    trainer = fit(toy(), features(), tmp_path, max_steps=3, callbacks=[guard])

    assert (guard.interrupted, trainer.global_step) == (False, 3)


def _wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_is_continued_to_the_end(number, tmp_path, monkeypatch):
    (tmp_path / "long.yaml").write_text(LONG)
    run = tmp_path / "runs/tiny/version_0"
    process = subprocess.Popen(
        [sys.executable, "-m", "spd_lightning", "fit", "--config", "long.yaml"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for(run / "figures" / "val_ablation_distances.png", process)  # training is under way
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == (
        "interrupted: the last step is saved; continue with the same command and --resume auto"
    )
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 20 <= done < 1_000_000
    assert not (run / "components.safetensors").exists()
    assert not (run / "metrics.json").exists()

    monkeypatch.chdir(tmp_path)
    cli = main(["fit", "--config", "long.yaml", "--ckpt_path", "last", f"--trainer.max_steps={done + 5}"])

    assert cli.trainer.global_step == done + 5
    assert (run / "components.safetensors").is_file()
    assert (run / "metrics.json").is_file()
    assert not (tmp_path / "runs/tiny/version_1").exists()
