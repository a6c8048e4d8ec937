"""Wrong usage: one line, exit code 2, nothing written."""

import errno

import pytest

from spd_lightning.files.whole import WriteError
from tests.sweep.conftest import COEFFICIENT

SEEDS = ("--over", "seed_everything=0,1")
CASES = {
    "unknown key": (["--over", "model.leek=1"], "model.leek is not a key of this config; did you mean model.leak?"),
    "misspelt loss": (["--set", "model.losses.importnce.coefficient=1", *SEEDS], f"did you mean {COEFFICIENT}?"),
    "wrong type of a later value": (
        ["--over", f"{COEFFICIENT}=1e-3,abc"],
        f'{COEFFICIENT}=abc: key "model.losses": key "coefficient"',
    ),
    "wrong type of a setting": (["--set", "trainer.max_steps=many", *SEEDS], "trainer.max_steps=many: key"),
    "value that never fits": (["--over", "trainer.max_steps=3,0"], "trainer.max_steps must be at least 1, got 0"),
    "empty list": (["--over", "seed_everything="], "seed_everything: the list of values is empty"),
    "duplicate value": (["--over", "seed_everything=1,1"], "seed_everything: values must differ"),
    "key named twice": ([*SEEDS, "seed_everything=3"], "--over: seed_everything is given twice"),
    "set and swept": (["--set", "seed_everything=3", *SEEDS], "seed_everything is both set and swept"),
    "additions swept": (["--over", "trainer.callbacks+=a,b"], "adds to a list and cannot be swept"),
    "the sweep's own key": (["--over", "ckpt_path=a,b"], "ckpt_path is set by the sweep itself"),
    "the sweep's own key in short form": (
        ["--set", "trainer.logger.save_dir=/big", *SEEDS],
        "trainer.logger.save_dir is set by the sweep itself; leave it out, or use --config, --output or --name",
    ),
    "the sweep's own key in long form": (
        ["--set", "trainer.logger.init_args.version=a", *SEEDS],
        "trainer.logger.init_args.version is set by the sweep itself",
    ),
    "a way to start": (["--set", "resume=auto", *SEEDS], "resume is set by the sweep itself"),
    "end of a key": (["--over", "lr=1e-3"], "lr is not a key of this config; did you mean model."),
    "nothing to vary": ([], "a sweep needs something to vary"),
    "name that leads elsewhere": ([*SEEDS, "--name", "../x"], "--name must start with a letter or digit"),
    "unknown flag": ([*SEEDS, "--jobs", "3"], "unrecognized arguments: --jobs 3"),
    "sweep file that is not there": (
        ["--sweep", "nowhere.yaml"],
        "sweep 'nowhere.yaml' does not exist; shipped sweeps are apd_k_tms_5-2.yaml",
    ),
}


def _only_line(result):
    assert result.code == 2
    (line,) = result.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("case", CASES)
def test_wrong_usage(case, sweep):
    arguments, message = CASES[case]

    result = sweep(*arguments)

    assert message in _only_line(result)
    assert not result.folder.exists()


def test_a_sweep_needs_a_config(sweep):
    assert "a sweep needs a config" in _only_line(sweep(*SEEDS, config=False))


def test_a_config_that_is_not_there(sweep):
    line = _only_line(sweep("--config", "nowhere.yaml", *SEEDS))

    assert "config 'nowhere.yaml' does not exist; python -m spd_lightning configs lists" in line
    assert "sweeps/" not in line


def test_a_bad_sweep_file_is_named(sweep, tmp_path):
    (tmp_path / "mine.yaml").write_text("over: {seed_everything: []}")

    assert "sweep file 'mine.yaml': seed_everything: the list of values is empty" in _only_line(
        sweep("--sweep", "mine.yaml")
    )


def test_a_folder_that_holds_something_else_is_not_used(sweep, tmp_path):
    (tmp_path / "runs/sweeps/mine").mkdir(parents=True)
    (tmp_path / "runs/sweeps/mine/precious.txt").write_text("precious")

    assert "exists and is not a sweep" in _only_line(sweep(*SEEDS, "--name", "mine"))
    assert [path.name for path in (tmp_path / "runs/sweeps/mine").iterdir()] == ["precious.txt"]


def test_what_a_full_disk_leaves_is_no_other_folder(sweep, monkeypatch):
    def full(path):
        raise WriteError(path, errno.ENOSPC)

    monkeypatch.setattr("spd_lightning.sweep.command.written_whole", full)
    for _ in range(2):
        assert "sweep.yaml' cannot be written (No space left" in _only_line(sweep(*SEEDS, "--name", "mine"))


def test_where_it_cannot_be_written_its_own_flag_is_named(sweep, tmp_path):
    (tmp_path / "occupied").write_text("a file, not a folder")

    line = _only_line(sweep(*SEEDS, "--name", "mine", "--output", "occupied"))
    assert line.endswith("the run directory 'occupied/mine' cannot be written (Not a directory); set --output")


def test_another_plan_under_the_same_name(sweep, copy):
    before = sorted(copy.rglob("*"))

    line = _only_line(sweep(*SEEDS, "--name", "done"))

    assert f"sweep 'done' exists with another set of swept keys ({COEFFICIENT}, seed_everything)" in line
    assert sorted(copy.rglob("*")) == before


def test_help_explains_itself(capsys, sweep):
    with pytest.raises(SystemExit) as stopped:
        sweep("--help")

    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--over model.losses.importance.coefficient=1e-3,3e-3,1e-2 --over seed_everything=0,1,2" in text
    assert "exit codes" in text
