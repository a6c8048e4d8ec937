from types import SimpleNamespace

import pytest
import torch

from tests.callbacks.perfect import perfect_decomposition
from tests.methods.tiny import expected_notices, make_trainer


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path.parent / "cache"))


@pytest.fixture
def examples() -> list[torch.Tensor]:
    """Two batches of unequal size, some importances saturated, some rows empty."""
    generator = torch.Generator().manual_seed(8)
    rows = torch.rand(10, 3, generator=generator) * (torch.rand(10, 3, generator=generator) < 0.6)
    return [rows[:7], rows[7:]]


@pytest.fixture
def run(tmp_path):
    """Evaluate a module with callbacks; returns scores by name and the trainer."""

    def evaluate(module, data, *callbacks, verb="test", **options):
        trainer = make_trainer(tmp_path, callbacks=list(callbacks), **({"limit_val_batches": None} | options))
        with expected_notices():
            getattr(trainer, verb)(module, datamodule=data, verbose=False)
        scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
        return SimpleNamespace(scores=scores, trainer=trainer, folder=tmp_path)

    return evaluate


@pytest.fixture
def noted(monkeypatch):
    """Notes the arguments of every call of a function of a module, which still does what it does."""

    def note(module, name):
        calls, original = [], getattr(module, name)

        def noting(*arguments):
            calls.append(arguments)
            return original(*arguments)

        monkeypatch.setattr(module, name, noting)
        return calls

    return note


@pytest.fixture
def perfect():
    """The decomposition that a 3-3 identity target should get, and one component that never acts."""
    return perfect_decomposition([1.0, 1.0, 1.0])
