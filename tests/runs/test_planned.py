"""Runs that are started, continued, or merely tested and reported, by the same arguments."""

from pathlib import Path

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.cli.command import main
from spd_lightning.runs.planned import PlannedRun
from tests.sweep.conftest import LEAN

STOPPER = {"trainer.callbacks+": "tests.cli.stopper.StopAfter", "trainer.callbacks.steps": "4"}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path.parent / "cache"))
    (tmp_path / "tiny.yaml").write_text(LEAN)


def planned(name="a=1", **overrides):
    return PlannedRun(folder=Path("runs", name), configs=("tiny.yaml",), overrides=overrides)


def _weights(run):
    return torch.load(run.record.checkpoint, weights_only=True)["state_dict"]


def _assert_same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def _interrupt(run):
    stopped = PlannedRun(run.folder, run.configs, {**run.overrides, **STOPPER})
    with pytest.raises(SystemExit) as ended:
        main(stopped.arguments())
    assert ended.value.code == 130


def test_arguments_of_a_run_to_start(tmp_path):
    run = PlannedRun(Path("some/where/a=1"), ("one.yaml", "two.yaml"), {"seed_everything": "3"})

    assert run.record.state == "absent"
    assert run.arguments() == [
        "fit",
        "--config",
        "one.yaml",
        "--config",
        "two.yaml",
        "--seed_everything=3",
        f"--trainer.logger.init_args.save_dir={tmp_path / 'some'}",
        "--trainer.logger.init_args.name=where",
        "--trainer.logger.init_args.version=a=1",
    ]


def test_a_run_lands_in_its_folder_with_its_overrides():
    run = planned(seed_everything="5")

    main(run.arguments())

    record = run.record
    assert record.state == "finished"
    assert record.metrics["seed"] == record.config["seed_everything"] == 5
    assert record.metrics["steps"] == 6


def test_an_interrupted_run_goes_on_and_equals_one_that_never_stopped():
    straight, run = planned("straight"), planned("stopped")
    main(straight.arguments())
    _interrupt(run)
    assert (run.record.state, run.record.checkpoint) == ("started", run.folder / "checkpoints/last.ckpt")

    assert run.arguments()[-2:] == ["--ckpt_path", str(run.folder.absolute() / "checkpoints/last.ckpt")]
    main(run.arguments())

    assert run.record.state == "finished"
    _assert_same(_weights(straight), _weights(run))
    assert [path.name for path in run.folder.parent.iterdir() if path.is_dir()].count("stopped") == 1


def test_a_run_that_only_lacks_its_final_test_is_tested_and_reported():
    run = planned()
    main(run.arguments())
    scores, weights = dict(run.record.scores), _weights(run)
    for name in ("metrics.json", "components.safetensors", "config.json"):
        (run.folder / name).unlink()
    assert run.record.state == "started"

    cli = main(run.arguments())

    assert cli.trainer.global_step == 6
    assert run.record.state == "finished"
    assert run.record.scores == scores
    assert run.record.metrics["steps"] == 6
    assert (run.folder / "components.safetensors").is_file()
    _assert_same(weights, _weights(run))


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_anew():
    run = planned()
    main(planned().arguments())
    for path in (run.folder / "checkpoints").iterdir():
        path.unlink()
    (run.folder / "metrics.json").unlink()
    config = (run.folder / "config.yaml").read_text()

    main(run.arguments())

    assert run.record.state == "finished"
    assert (run.folder / "config.yaml").read_text() == config


def test_a_run_that_was_stopped_while_its_config_was_written_has_not_begun(monkeypatch):
    run = planned()
    with monkeypatch.context() as patch:
        patch.setattr("spd_lightning.cli.run_config.written_whole", _interrupted)
        with pytest.raises(SystemExit) as ended:
            main(run.arguments())
    assert ended.value.code == 130
    assert any(run.folder.iterdir())
    assert run.record.state == "absent"

    main(run.arguments())

    assert run.record.state == "finished"


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_other_files_without_a_config_are_damage():
    run = planned()
    run.folder.mkdir(parents=True)
    (run.folder / "events.out.tfevents.1").write_text("")
    (run.folder / "notes.txt").write_text("precious")

    assert run.record.state == "damaged"


@pytest.mark.parametrize("name", ["7", "0x1f", "null", "1_000"])
def test_a_folder_that_the_logger_would_rename_is_refused(name):
    with pytest.raises(UsageError, match=f"must not be named by a bare number or null, got '{name}'"):
        planned(name).arguments()


@pytest.mark.parametrize("name", ["seed_0", "1e-3", "lr=1e-3,seed=0", "true"])
def test_other_names_stay_as_they_are(name):
    run = planned(name, **{"trainer.max_steps": "1", "trainer.val_check_interval": "1"})

    main(run.arguments())

    assert run.record.state == "finished"
