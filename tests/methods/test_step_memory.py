"""The estimate of what a step holds: right for the whole batch, without a trace, and in time."""

from functools import partial

import pytest
import torch

from spd_lightning import (
    KeywordCall,
    PersistentAdversary,
    PerSite,
    SharedMLP,
    SmoothFrequency,
    StochasticDecomposition,
    UsageError,
    untuned_losses,
)
from spd_lightning.losses import Noise
from spd_lightning.methods import decomposition, step_memory
from spd_lightning.methods.step_memory import StepMemory, held, measured
from spd_lightning.targets import LanguageModel
from tests.methods.tiny import Batches, features, fit, toy, trained_state

ROWS = 12


def _language_model():
    torch.manual_seed(0)
    call = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", output="logits")
    importance = partial(PerSite, function=partial(SharedMLP, hidden=[16]))
    target = LanguageModel(vocabulary=300, length=16, width=16, layers=1, heads=2)
    losses = untuned_losses("kl") | {"persistent": PersistentAdversary()}
    module = StochasticDecomposition(
        target, {"transformer.h.*.mlp.c_*": 8}, losses=losses, call=call, importance=importance
    )
    return module, {"input_ids": torch.randint(300, (ROWS, 16)), "attention_mask": torch.ones(ROWS, 16).long()}


def _toy():
    return toy(), torch.rand(ROWS, 5)


@pytest.mark.parametrize("make", [_language_model, _toy])
def test_a_few_rows_tell_what_a_batch_holds(make):
    module, batch = make()

    found = measured(module._tried, batch, module)

    known = {tensor.untyped_storage().data_ptr() for tensor in [*module.parameters(), *module.buffers()]}
    whole = held(lambda: module._tried(batch), known)
    assert whole > 10_000
    assert found.of(ROWS) == pytest.approx(whole, rel=0.05)


def test_what_is_let_go_does_not_count():
    x = torch.rand(1000, requires_grad=True)

    def one_after_the_other():
        for _ in range(5):
            (x.exp() * 2).sum().backward()
        return x.sum()

    assert held(one_after_the_other, set()) == pytest.approx(4000, rel=0.1)


def test_the_most_rows_that_fit():
    assert StepMemory(100.0, 10.0).largest_batch(155.0) == 5
    assert StepMemory(100.0, 10.0).largest_batch(50.0) == 0


def test_training_is_the_same_without_the_estimate(tmp_path, monkeypatch):
    def trained(folder):
        losses = untuned_losses() | {"kept": PersistentAdversary(distance="mse"), "often": SmoothFrequency(1e-3)}
        module = toy(losses=losses)
        fit(module, features(), tmp_path / folder, max_steps=3)
        return trained_state(module), module.terms()["kept"].state()

    weights, kept = trained("with")
    monkeypatch.setattr(decomposition.Decomposition, "check_memory", lambda self, batch: None)
    others, sources = trained("without")

    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())
    assert kept["pushes"] == sources["pushes"]


def test_too_little_memory_is_said_before_the_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decomposition, "WORTH_TELLING", 0)
    fit(toy(), features(), tmp_path / "told", max_steps=1)
    assert "a step on 16 rows holds about 0.0 GB" in capsys.readouterr().err

    module = toy()
    found = measured(module._tried, torch.rand(16, 5), module)
    free = int(found.of(10.5))
    monkeypatch.setattr(decomposition, "available_memory", lambda device: free)
    before = trained_state(module)
    with pytest.raises(UsageError, match="are free; at most 10 rows fit, lower batch_size"):
        fit(module, Batches(torch.rand(16, 5)), tmp_path / "refused", max_steps=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained_state(module).items())


def test_what_is_free_on_this_machine():
    free = step_memory.available_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_an_objective_that_needs_more_rows_is_not_estimated():
    module, batch = _toy()

    def needs_all(rows):
        assert len(rows) == ROWS
        return module.objective(rows, Noise((0,), module.device))[0]

    assert measured(needs_all, batch, module) is None
    assert measured(module._tried, batch[:4], module) is None
