"""Checkpoints close their step; stopping and going on leaves no trace in what is logged."""

import signal

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from spd_lightning import UsageError
from spd_lightning.callbacks import Checkpoints, ComponentActivity, EvaluationCallback, InterruptGuard, TrainingLog
from tests.comparison import scalars
from tests.methods.tiny import features, fit, toy

OPTIONS = {"max_steps": 8, "val_check_interval": 4, "limit_val_batches": None, "enable_checkpointing": True}


class Press(Callback):
    """Presses Ctrl-C once, at a training batch or the first batch of the validation after it."""

    def __init__(self, batch, hook="on_train_batch_start"):
        self.batch, self.pressed = batch, False
        setattr(self, hook, self._press)

    def _press(self, trainer, *_):
        if not self.pressed and trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


class Validated(EvaluationCallback):
    """Remembers at which steps there was a validation."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def finish(self, trainer, module, stage):
        self.steps.append(trainer.global_step)


def _fit(folder, *more, ckpt_path=None, every=2, **options):
    logger = TensorBoardLogger(folder, name="", version="run", default_hp_metric=False)
    seen, module = Validated(), toy()
    standing = [TrainingLog(1), ComponentActivity(), seen, InterruptGuard(), Checkpoints(every)]
    fit(module, features(), folder, ckpt_path, logger=logger, callbacks=[*more, *standing], **(OPTIONS | options))
    return module, seen.steps


def _step(path):
    return torch.load(path, weights_only=True)["global_step"]


def _same(left, right):
    return all(torch.equal(tensor, right.state_dict()[name]) for name, tensor in left.state_dict().items())


def test_names_tell_the_step_and_the_end_is_kept(tmp_path):
    _fit(tmp_path, max_steps=7)

    steps = {path.name: _step(path) for path in (tmp_path / "run/checkpoints").iterdir()}
    assert steps == {"step=2.ckpt": 2, "step=4.ckpt": 4, "step=6.ckpt": 6, "last.ckpt": 7}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("step", [4, 6])
def test_going_on_from_any_checkpoint_repeats_the_run(step, accumulate, tmp_path):
    options = {"accumulate_grad_batches": accumulate}
    module, validated = _fit(tmp_path / "straight", **options)
    _fit(tmp_path / "twice", **options)

    resumed, again = _fit(tmp_path / "twice", ckpt_path=tmp_path / f"twice/run/checkpoints/step={step}.ckpt", **options)

    assert _same(module, resumed)
    assert scalars(tmp_path / "straight" / "run") == scalars(tmp_path / "twice" / "run")
    closed = [s for s in validated if s <= step]
    assert [*closed, *again] == validated


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batch", [3, 6])
def test_ctrl_c_stops_at_a_whole_step_without_a_validation_of_its_own(batch, accumulate, tmp_path):
    options = {"accumulate_grad_batches": accumulate, "every": 3}
    module, validated = _fit(tmp_path / "straight", **options)
    last = tmp_path / "stopped/run/checkpoints/last.ckpt"

    _, before = _fit(tmp_path / "stopped", Press(batch), **options)
    stopped_after = _step(last)
    resumed, after = _fit(tmp_path / "stopped", ckpt_path=last, **options)

    assert stopped_after == batch // accumulate + 1
    assert before + after == validated
    assert _same(module, resumed)
    assert scalars(tmp_path / "straight" / "run") == scalars(tmp_path / "stopped" / "run")


def test_ctrl_c_in_a_validation_ends_with_it(tmp_path):
    _, before = _fit(tmp_path, Press(3, hook="on_validation_batch_start"))

    assert _step(tmp_path / "run/checkpoints/last.ckpt") == 4
    assert before == [4]


def test_a_rhythm_below_one_is_refused():
    with pytest.raises(UsageError, match="Checkpoints: every_n_train_steps must be at least 1, got 0"):
        Checkpoints(0)
