"""Sweeps that are interrupted, or in which a run fails."""

import csv
import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from spd_lightning.sweep.isolation import isolated
from tests.sweep.conftest import COEFFICIENT, GRID

STOPPER = ("--set", "trainer.callbacks+=tests.cli.stopper.StopAfter", "trainer.callbacks.steps=4")
SHORT = ("trainer.max_steps=2", "trainer.val_check_interval=2")


def _states(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [(row["state"], row["steps"]) for row in csv.DictReader(file)]


@pytest.mark.reliability
def test_ctrl_c_stops_the_sweep_and_the_same_command_goes_on(sweep):
    command = ("--over", "seed_everything=0,1", "--name", "stopped", *STOPPER)

    first = sweep(*command)
    assert first.code == 130
    assert first.err.strip().splitlines()[-1] == "sweep interrupted; the same command goes on with it"
    assert _states(first.folder / "stopped") == [("begun", ""), ("to do", "")]

    second = sweep(*command)  # the first run goes on, the second is interrupted in turn
    assert second.code == 130
    assert _states(second.folder / "stopped") == [("finished", "6"), ("begun", "")]
    assert "seed_everything=0: goes on" in second.err

    third = sweep(*command)
    assert (third.code, _states(third.folder / "stopped")) == (0, [("finished", "6"), ("finished", "6")])
    resumed = yaml.safe_load((third.folder / "stopped/seed_everything=1/config.resumed-1.yaml").read_text())
    added = [callback["class_path"] for callback in resumed["trainer"]["callbacks"][-2:]]
    assert added == ["spd_lightning.callbacks.SweptValues", "tests.cli.stopper.StopAfter"]


def test_a_run_that_fails_does_not_stop_the_others(sweep):
    result = sweep("--over", "data.feature_probability=1.5,0.3", "--set", *SHORT, "--name", "failing")

    assert result.code == 1
    folder = result.folder / "failing"
    assert _states(folder) == [("failed", ""), ("finished", "2")]
    with (folder / "results.csv").open(newline="") as file:
        problem = next(csv.DictReader(file))["problem"]
    assert "feature_probability must lie in (0, 1], got 1.5" in problem
    assert "\n" not in problem
    assert any(line.startswith("data.feature_probability=1.5: failed, ") for line in result.err.splitlines())
    assert "1 of 2 runs are finished" in result.out


def test_any_exception_is_told_in_one_line_with_its_place(sweep, tmp_path, monkeypatch):
    (tmp_path / "breaking.py").write_text(
        "from lightning.pytorch import Callback\n\n\nclass Break(Callback):\n"
        "    def on_train_start(self, trainer, module):\n"
        "        if module.seed == 0:\n            raise KeyError('a\\nb')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    result = sweep(
        "--over", "seed_everything=0,1", "--set", *SHORT, "trainer.callbacks+=breaking.Break", "--name", "broken"
    )

    assert result.code == 1
    assert _states(result.folder / "broken") == [("failed", ""), ("finished", "2")]
    (line,) = (line for line in result.err.splitlines() if line.startswith("seed_everything=0: failed"))
    assert "KeyError: " in line
    assert line.endswith("breaking.py:7)")


def test_a_switch_of_one_run_does_not_reach_the_next(sweep):
    result = sweep("--over", "trainer.deterministic=true,false", "--set", *SHORT, "--name", "switched")

    assert result.code == 0
    assert not torch.are_deterministic_algorithms_enabled()
    pictures = sorted(path.name for path in (result.folder / "switched/figures").iterdir())
    assert pictures == ["importance_tables.png"]  # true and false are no numbers to draw a curve over


def test_the_command_line_overrules_the_sweep_file(sweep, tmp_path, place):
    (tmp_path / "file.yaml").write_text(
        f"config: nowhere.yaml\nset: {{trainer.max_steps: 50, trainer.val_check_interval: 2}}\n"
        f"over:\n  {COEFFICIENT}: [1.0e-3, 1.0e-2]\n  seed_everything: [0, 1, 2]\n"
    )

    result = sweep(
        "--sweep", "file.yaml", "--over", "seed_everything=4", f"{COEFFICIENT}=2e-3", "--set", "trainer.max_steps=2"
    )

    assert result.code == 0
    assert _states(result.folder / "file") == [("finished", "2")]  # named after the file
    assert (result.folder / "file/importance.coefficient=2e-3,seed_everything=4").is_dir()


def test_a_second_process_is_turned_away(sweep, copy):
    before = (copy / "sweep.yaml").read_bytes()

    with FileLock(copy / "sweep.lock"):
        result = sweep(*GRID, "--name", "done")

    assert result.code == 2
    assert "error: another process is running the sweep in 'runs/sweeps/done'" in result.err
    assert (copy / "sweep.yaml").read_bytes() == before


def _change_everything():
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    os.environ["PL_GLOBAL_SEED"] = "5"
    sys.path.append("/nowhere")
    warnings.simplefilter("ignore")


def _state():
    return (
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        dict(os.environ),
        list(sys.path),
        list(warnings.filters),
    )


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_what_a_run_changes_is_put_back(error):
    before = _state()

    try:
        with isolated():
            _change_everything()
            assert all(changed != was for changed, was in zip(_state(), before, strict=True))
            if error is not None:
                raise error
    except (KeyError, KeyboardInterrupt):
        pass

    assert _state() == before
