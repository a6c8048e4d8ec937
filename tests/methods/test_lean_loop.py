"""The lean loop makes Lightning's calls: same hooks in the same order, same weights, same checkpoints."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from spd_lightning import Optimization
from spd_lightning.lightning_private import HOOKS, LeanEpochLoop
from tests.methods.tiny import expected_notices, features, make_trainer, toy


class Spy(Callback):
    """Notes every step hook with what could differ, and logs from within."""

    def __init__(self):
        self.trace = []

    def note(self, name, trainer, module):
        total = sum(parameter.sum().item() for parameter in module.model.components.parameters())
        self.trace.append((name, trainer.global_step, trainer.fit_loop.batch_idx, module._current_fx_name, total))
        if name in ("on_train_batch_end", "on_after_backward"):
            module.log(f"spy/{name}", float(trainer.global_step))


def _noting(name):
    return lambda self, trainer, module, *arguments: self.note(name, trainer, module)


for _name in HOOKS:
    setattr(Spy, _name, _noting(_name))


def _checkpoints():
    return ModelCheckpoint(filename="{step}", every_n_train_steps=4, save_top_k=-1, save_last=True)


def _train(folder, lean, ckpt_path=None, module_options=None, **options):
    spy = Spy()
    settings = {"max_steps": 12, "enable_checkpointing": True, "callbacks": [spy, _checkpoints()]} | options
    trainer = make_trainer(folder, **settings)
    if lean:
        LeanEpochLoop.install(trainer)
    module = toy(**(module_options or {}))
    with expected_notices():
        trainer.fit(module, datamodule=features(), ckpt_path=ckpt_path)
    checkpoint = torch.load(trainer.checkpoint_callback.last_model_path, weights_only=True)
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop, LeanEpochLoop) == lean
    return spy.trace, checkpoint, getattr(loop, "_plain", False), trainer


def _equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return first == second


def _assert_same_run(folder, used, **options):
    expected = _train(folder / "lightning", False, **options)
    found = _train(folder / "lean", True, **options)
    assert found[2] == used
    assert found[0] == expected[0]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step", "spd_lightning"):
        assert _equal(found[1][part], expected[1][part]), part


def test_a_plain_run_is_the_same_call_by_call_and_bit_by_bit(tmp_path):
    _assert_same_run(tmp_path, used=True)


def test_accumulated_gradients_are_the_same(tmp_path):
    _assert_same_run(tmp_path, used=True, accumulate_grad_batches=2)


def test_clipping_is_the_same(tmp_path):
    clipped = {"optimization": Optimization(clip_components=0.01, clip_importance=0.02)}
    _assert_same_run(tmp_path, used=True, module_options=clipped)


def test_validation_in_between_is_the_same(tmp_path):
    _assert_same_run(tmp_path, used=True, limit_val_batches=2, val_check_interval=3)


@pytest.mark.parametrize("options", [{"profiler": "simple"}, {"precision": "bf16-mixed"}], ids=["profiled", "bf16"])
def test_other_cases_are_left_to_lightning(tmp_path, options):
    _assert_same_run(tmp_path, used=False, **options)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the resumed run keeps its files elsewhere
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path):
    whole = _train(tmp_path / "whole", True)[1]
    (middle,) = (tmp_path / "whole").rglob("step=8.ckpt")
    resumed = _train(tmp_path / "resumed", True, ckpt_path=middle)

    assert resumed[2]
    assert [entry[1] for entry in resumed[0] if entry[0] == "on_train_batch_end"] == [9, 10, 11, 12]
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert _equal(resumed[1][part], whole[part]), part


def test_what_hooks_log_arrives(tmp_path):
    found = _train(tmp_path / "lean", True)[3].callback_metrics
    assert found["spy/on_train_batch_end"] == 12
    assert found["spy/on_after_backward"] == 11


def test_another_release_of_lightning_keeps_its_own_loop(tmp_path, monkeypatch):
    monkeypatch.setattr("spd_lightning.lightning_private.__version__", "2.7.0")
    trainer = make_trainer(tmp_path)
    before = type(trainer.fit_loop.epoch_loop)
    LeanEpochLoop.install(trainer)
    assert type(trainer.fit_loop.epoch_loop) is before
