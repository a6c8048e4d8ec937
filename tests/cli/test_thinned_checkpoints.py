"""A long run keeps a bounded number of states, spread evenly, and goes on from them exactly."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from spd_lightning.callbacks import Checkpoints, checkpoints
from tests.methods.tiny import features, fit, toy


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(checkpoints, "MOST", 4)


class _Stop(Callback):
    """Stops after some steps of a run, whose schedules span all of them."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= self.steps


def _fit(folder, steps, ckpt_path=None, **options):
    logger = TensorBoardLogger(folder, name="", version="run", default_hp_metric=False)
    module = toy()
    keeping = {"logger": logger, "callbacks": [_Stop(steps), Checkpoints(2, **options)], "enable_checkpointing": True}
    fit(module, features(), folder, ckpt_path, max_steps=24, **keeping)
    return module


def _kept(folder):
    paths = (folder / "run/checkpoints").glob("step=*.ckpt")
    return sorted(torch.load(path, weights_only=True)["global_step"] for path in paths)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [(8, [2, 4, 6, 8]), (10, [2, 4, 6, 8]), (12, [4, 8, 12]), (16, [4, 8, 12, 16]), (24, [8, 16, 24])],
)
def test_the_distance_doubles_when_there_would_be_too_many(steps, kept, tmp_path):
    _fit(tmp_path, steps)
    assert _kept(tmp_path) == kept
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == steps


def test_minus_one_keeps_every_one(tmp_path):
    _fit(tmp_path, 12, save_top_k=-1)
    assert _kept(tmp_path) == [2, 4, 6, 8, 10, 12]


def test_what_a_user_kept_stays(tmp_path):
    _fit(tmp_path, 8, save_top_k=-1)
    mine = tmp_path / "run/checkpoints/mine.ckpt"
    mine.write_bytes((tmp_path / "run/checkpoints/step=2.ckpt").read_bytes())
    _fit(tmp_path, 16, ckpt_path=tmp_path / "run/checkpoints/last.ckpt")
    assert mine.exists()
    assert {2, 4, 6, 8} <= set(_kept(tmp_path))  # written while every one was asked for


def test_the_state_that_a_run_goes_on_from_stays(tmp_path):
    _fit(tmp_path, 8)
    _fit(tmp_path, 16, ckpt_path=tmp_path / "run/checkpoints/step=6.ckpt")
    assert _kept(tmp_path) == [4, 6, 8, 12, 16]


def test_going_on_is_exact_and_ends_with_the_same_states(tmp_path):
    whole = _fit(tmp_path / "straight", 24)
    _fit(tmp_path / "stopped", 10)
    resumed = _fit(tmp_path / "stopped", 24, ckpt_path=tmp_path / "stopped/run/checkpoints/last.ckpt")
    assert _kept(tmp_path / "stopped") == _kept(tmp_path / "straight") == [8, 16, 24]
    assert all(torch.equal(one, resumed.state_dict()[name]) for name, one in whole.state_dict().items())
