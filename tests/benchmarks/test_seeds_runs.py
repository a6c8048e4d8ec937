"""Real runs of a tiny table, by workers that make several of them and may die."""

import csv
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from filelock import FileLock

from benchmarks.options import ROOT
from benchmarks.seeds.__main__ import main
from benchmarks.seeds.options import parse
from benchmarks.seeds.plan import read_plan
from benchmarks.seeds.runs import runs_of
from benchmarks.seeds.worker import make
from spd_lightning.files.whole import WriteError
from spd_lightning.sweep.execute import attempt
from tests.sweep.conftest import LEAN

PLAN = """\
entries:
- name: tiny
  config: {config}
  seeds: 0-1
"""
DYING = "  set: {{trainer.callbacks+: tests.benchmarks.dying.DiesOnce, trainer.callbacks.note: {note}}}\n"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A plan of two seeds: its folder and how it is run."""
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(LEAN)
    (tmp_path / "mine.yaml").write_text(PLAN.format(config=tmp_path / "tiny.yaml"))
    return tmp_path / "runs" / "mine", [str(tmp_path / "mine.yaml"), "--runs", str(tmp_path / "runs")]


def states(folder):
    with (folder / "mine_runs.csv").open(newline="") as file:
        return [row["state"] for row in csv.DictReader(file)]


def scores(folder):
    return json.loads((folder / "metrics.json").read_text())["scores"]


@pytest.mark.slow
def test_a_table_goes_on_with_what_was_begun(table, tmp_path):
    folder, command = table
    options = parse(command)
    (entry,) = runs_of(options.plan, options.folder)
    stopper = ["--trainer.callbacks+=tests.cli.stopper.StopAfter", "--trainer.callbacks.steps=4"]
    with pytest.raises(KeyboardInterrupt):
        attempt([*entry.runs[0].planned.arguments(), *stopper])
    folder.joinpath("plan.yaml").write_text(options.plan.text())
    assert main([*command, "--table-only"]) == 0
    assert states(folder) == ["started", "absent"]

    assert main(command) == 0
    assert states(folder) == ["finished"] * 2
    first, second = (folder / f"tiny/seed_everything={seed}" for seed in (0, 1))
    assert (first / "config.resumed-1.yaml").is_file()
    assert json.loads((first / "process.json").read_text())["parts"][0]["threads"] == 1

    # the second run of a process is what it is alone
    place = {"save_dir": tmp_path, "name": "alone", "version": "run"}
    where = [f"--trainer.logger.init_args.{name}={value}" for name, value in place.items()]
    assert attempt(["fit", "--config", str(tmp_path / "tiny.yaml"), "--seed_everything=1", *where]) == ""
    assert scores(tmp_path / "alone/run") == scores(second)


@pytest.mark.slow
def test_what_two_entries_ask_for_is_run_once(table, tmp_path):
    folder, command = table
    again = "- name: again\n  config: {config}\n  over: [{{data.batch_size: [{own}, 24]}}]\n  seeds: 0\n"
    own = yaml.safe_load(LEAN)["data"]["init_args"]["batch_size"]
    more = again.format(config=tmp_path / "tiny.yaml", own=own)
    (tmp_path / "mine.yaml").write_text(PLAN.format(config=tmp_path / "tiny.yaml") + more)

    assert main(command) == 0
    assert states(folder) == ["finished"] * 4
    made = sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/*/metrics.json"))
    assert made == ["again/data.batch_size=24,seed_everything=0", "tiny/seed_everything=0", "tiny/seed_everything=1"]


def test_nothing_is_written_for_what_is_refused(table, capsys):
    folder, command = table

    assert main([*command, "--set", "trainer.max_steps=many"]) == 2
    assert "trainer.max_steps=many: key" in capsys.readouterr().err
    assert main([*command, "--set", "model.leek=1"]) == 2
    assert "error: entry 'tiny': model.leek=1: there is no flag --model.leek; did you mean" in capsys.readouterr().err
    assert not folder.exists()

    folder.mkdir(parents=True)
    (folder / "precious.txt").write_text("precious")
    assert main(command) == 2
    assert "exists and holds no plan.yaml; choose another --name" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


def test_what_a_full_disk_leaves_is_no_other_folder(table, tmp_path, monkeypatch, capsys):
    def full(path):
        raise WriteError(path, errno.ENOSPC)

    _, command = table
    monkeypatch.setattr("benchmarks.seeds.__main__.written_whole", full)
    for _ in range(2):
        assert main(command) == 2
        assert "plan.yaml' cannot be written (No space left" in capsys.readouterr().err

    (tmp_path / "occupied").write_text("a file, not a folder")
    assert main([*command, "--runs", str(tmp_path / "occupied")]) == 2
    assert capsys.readouterr().err.endswith("cannot be written (Not a directory); set --runs\n")


def test_tables_without_runs_are_written_and_drawn_sizes_with_them(tmp_path, capsys):
    arguments = ["--draw", "1", "--seed", "4", "--table-only", "--runs", str(tmp_path)]
    assert main(arguments) == 0
    folder = tmp_path / "drawn"
    text = (folder / "plan.yaml").read_text()
    plan = read_plan(folder / "plan.yaml")
    assert (len(plan.drawn), plan.draw.seed) == (1, 4)
    assert "0 of 0" in (folder / "seeds.md").read_text()

    capsys.readouterr()
    assert main(["--draw", "1", "--seed", "5", "--table-only", "--runs", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: table 'drawn' exists with another draw ({count: 1, seed: 4, ")
    assert (folder / "plan.yaml").read_text() == text
    with FileLock(folder / "seeds.lock"):
        assert main(arguments) == 2
    assert "another process is at work on" in capsys.readouterr().err


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path):
    log = tmp_path / "seed_0.log"
    with log.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert make(["fit"], str(log)) == f"another process is making it; see {log}"
    assert log.read_bytes() == b""


@pytest.mark.reliability
@pytest.mark.slow
def test_a_table_goes_on_after_a_kill_and_takes_further_seeds(table, tmp_path):
    folder, command = table
    plan = PLAN.format(config=tmp_path / "tiny.yaml") + DYING.format(note=tmp_path / "died")
    (tmp_path / "mine.yaml").write_text(plan)

    assert main([*command, "--seeds", "0"]) == 1
    assert states(folder) == ["started"]
    assert "killed by signal 9" in (folder / "seeds.md").read_text()
    assert "| tiny | 0 of 1 | 0.00, 0.00 to 0.79 |" in (folder / "seeds.md").read_text()

    assert main(command) == 0  # goes on, and takes the seed that is new
    assert states(folder) == ["finished"] * 2
    assert "killed by signal" not in (folder / "seeds.md").read_text()
    assert len(list((tmp_path / "cache/targets").glob("*.safetensors"))) == 1
    assert len(read_plan(folder / "plan.yaml").entries[0].points) == 2
    made = [path.stat().st_mtime_ns for path in sorted(folder.rglob("metrics.json"))]

    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("metrics.json"))] == made


@pytest.mark.reliability
@pytest.mark.slow
def test_workers_save_and_end_when_their_table_is_killed(table):
    folder, command = table
    long = [*command, "--seeds", "1", "--set", "trainer.max_steps=200000", "trainer.val_check_interval=200000"]
    log, run = folder / "tiny/seed_everything=1.log", folder / "tiny/seed_everything=1"
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.seeds", *long], cwd=ROOT, env={**os.environ})
    until = time.monotonic() + 200
    while not (run / "checkpoints/last.ckpt").is_file():  # after 1000 steps
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits until the worker has let go
    assert "interrupted: the last step is saved" in log.read_text()
    assert not (run / "metrics.json").exists()
