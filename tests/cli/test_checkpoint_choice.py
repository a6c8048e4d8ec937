"""``--ckpt_path`` takes a run directory wherever it takes a checkpoint."""

import os

import pytest

from spd_lightning import UsageError
from spd_lightning.cli.checkpoint_choice import chosen_checkpoint, run_directory
from spd_lightning.cli.command import main

RUN = "runs/tiny/version_0"


@pytest.fixture
def stopped(run):
    """A run that was stopped after 4 of its 6 steps."""
    keeping = ("--trainer.callbacks=[InterruptGuard, Checkpoints]", "--trainer.callbacks+=tests.cli.stopper.StopAfter")
    with pytest.raises(SystemExit):
        run("fit", *keeping, "--trainer.callbacks.steps=4")


def test_every_command_takes_the_newest_whole_checkpoint_of_a_run(stopped, folder, capsys):
    broken = folder / RUN / "checkpoints/step=9.ckpt"
    broken.write_bytes(b"half a file")
    os.utime(broken, (2**32, 2**32))
    capsys.readouterr()
    main(["test", "--ckpt_path", RUN])
    told = capsys.readouterr().err
    assert f"takes {RUN}/checkpoints/last.ckpt, step 4" in told
    assert "step=9.ckpt' is damaged or not a torch file; looking for the one before it" in told
    assert (folder / RUN / "test/version_0/config.yaml").is_file()

    main(["predict", "--ckpt_path", f"{RUN}/"])
    assert (folder / "importances.csv").is_file()

    assert main(["fit", "--ckpt_path", f"{RUN}/checkpoints"]).trainer.global_step == 6
    assert [path.name for path in (folder / "runs/tiny").iterdir()] == ["version_0"]


def _of_versions(folder):
    (folder / "x/version_3/checkpoints").mkdir(parents=True)
    (folder / "x/version_3/checkpoints/last.ckpt").write_bytes(b"")


def _of_damaged(folder):
    (folder / "x/checkpoints").mkdir(parents=True)
    (folder / "x/checkpoints/last.ckpt").write_bytes(b"")


WRONG = {
    "nothing": (
        lambda folder: None,
        r"checkpoint 'x' does not exist; --ckpt_path takes a \.ckpt file, a run directory",
    ),
    "an empty folder": (lambda folder: (folder / "x").mkdir(), r"'x' is a directory without checkpoints; --ckpt_path"),
    "a folder of runs": (_of_versions, r"without checkpoints; the newest below it is 'x/version_3'"),
    "a damaged run": (_of_damaged, r"no checkpoint in 'x' is intact"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_checkpoint_is_named(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, told = WRONG[case]
    make(tmp_path)
    with pytest.raises(UsageError, match=told):
        chosen_checkpoint(type(tmp_path)("x"))


def test_a_file_of_another_kind_is_named(folder, refused):
    line = refused("test", "--config=tiny.yaml", "--ckpt_path=tiny.yaml")
    assert "'tiny.yaml' is a .yaml file, no checkpoint; --ckpt_path takes a .ckpt file, a run directory" in line


def test_the_last_run_is_that_of_a_config(folder, refused):
    (folder / "config.yaml").write_text((folder / "tiny.yaml").read_text())  # of something else that lies here
    assert "name a config, for example --config tms.yaml" in refused("validate", "--ckpt_path", "last")


def test_a_run_is_found_from_any_place_in_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for place in ("", "checkpoints", "checkpoints/last.ckpt"):
        assert run_directory(tmp_path / place) == tmp_path
