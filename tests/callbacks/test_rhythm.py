"""When analyses run and what the training log writes."""

import pytest
import torch
from lightning.pytorch.loggers.logger import Logger

from spd_lightning import Optimization, UsageError
from spd_lightning.callbacks import EvaluationCallback, TrainingLog
from tests.methods.tiny import Probe, expected_notices, features, fit, make_trainer, toy


class Journal(EvaluationCallback):
    """Notes when it is called."""

    def __init__(self, every_n_validations=1):
        super().__init__(every_n_validations)
        self.notes = []

    def start(self, trainer, module):
        self.batches = 0

    def update(self, trainer, module, step):
        assert step.batch.shape == step.clean.output.shape == (8, 5)
        self.batches += 1

    def finish(self, trainer, module, stage):
        assert not torch.is_grad_enabled()
        self.notes.append((stage, trainer.global_step, self.batches))


class Notebook(Logger):
    """Keeps every call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    name = "notebook"
    version = 0

    def log_metrics(self, metrics, step=None):
        self.calls.append((step, dict(metrics)))

    def log_hyperparams(self, params, *args, **kwargs):
        pass


VALIDATED = {"val_check_interval": 1, "limit_val_batches": None}


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (5, [5]), (6, [])])
def test_an_analysis_runs_at_every_nth_validation(every, steps, tmp_path):
    journal = Journal(every)

    fit(toy(), features(), tmp_path, max_steps=5, callbacks=[journal], num_sanity_val_steps=1, **VALIDATED)

    assert journal.notes == [("val", step, 2) for step in steps]


@pytest.mark.parametrize(("verb", "stage"), [("validate", "val"), ("test", "test")])
def test_evaluation_on_its_own_always_runs(verb, stage, tmp_path):
    journal = Journal(every_n_validations=100)

    with expected_notices():
        trainer = make_trainer(tmp_path, callbacks=[journal], limit_val_batches=None)
        getattr(trainer, verb)(toy(), datamodule=features(), verbose=False)

    assert journal.notes == [(stage, 0, 2)]


def test_a_resumed_run_keeps_the_rhythm(tmp_path):
    first, second = Journal(2), Journal(2)
    trainer = fit(toy(), features(), tmp_path, max_steps=3, callbacks=[first], **VALIDATED)
    trainer.save_checkpoint(tmp_path / "three.ckpt")

    fit(toy(), features(), tmp_path, tmp_path / "three.ckpt", max_steps=7, callbacks=[second], **VALIDATED)

    assert first.notes == [("val", 2, 2)]
    assert second.notes == [("val", step, 2) for step in (4, 6)]


def test_an_analysis_cannot_disturb_training(tmp_path):
    watched, alone = toy(), toy()

    fit(watched, features(), tmp_path, max_steps=4, callbacks=[Journal()], **VALIDATED)
    fit(alone, features(), tmp_path, max_steps=4)

    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))


@pytest.mark.parametrize(
    ("every", "max_steps", "steps"), [(3, 7, [1, 3, 6]), (1, 3, [1, 2, 3]), (100, 4, [1]), (2, 4, [1, 2, 4])]
)
def test_the_log_writes_the_first_step_and_every_nth(every, max_steps, steps, tmp_path):
    notebooks = [Notebook(), Notebook()]
    probe = Probe(lambda trainer, module, outputs, batch: outputs)
    module = toy(optimization=Optimization(lr=0.004, schedule="constant"))

    fit(module, features(), tmp_path, max_steps=max_steps, logger=notebooks, callbacks=[TrainingLog(every), probe])

    expected = [
        (
            step,
            {
                **dict.fromkeys(("headline/loss", "train/loss"), probe.seen[step - 1]["loss"].item()),
                **{f"train/{name}": term.item() for name, term in probe.seen[step - 1]["terms"].items()},
                "train/lr": 0.004,
            },
        )
        for step in steps
    ]
    assert notebooks[0].calls == notebooks[1].calls
    norms = ["train/gradient_norm/components", "train/gradient_norm/importance"]
    assert [(step, {k: v for k, v in seen.items() if k not in norms}) for step, seen in notebooks[0].calls] == expected
    assert list(notebooks[0].calls[0][1]) == [
        "headline/loss",
        "train/loss",
        *(f"train/{name}" for name in ("faithfulness", "stochastic", "layerwise", "importance")),
        *norms,
        "train/lr",
    ]


def test_accumulated_batches_give_one_point_per_step(tmp_path):
    notebook = Notebook()

    fit(
        toy(),
        features(),
        tmp_path,
        max_steps=4,
        accumulate_grad_batches=3,
        logger=notebook,
        callbacks=[TrainingLog(2)],
    )

    assert [step for step, _ in notebook.calls] == [1, 2, 4]


def test_a_log_that_never_writes_is_refused():
    with pytest.raises(UsageError, match="TrainingLog: every_n_steps must be at least 1, got 0"):
        TrainingLog(0)
