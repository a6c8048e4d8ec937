"""Which runs there are, which are used, and what is refused."""

import errno

import pytest

from benchmarks.reproduce.__main__ import main
from benchmarks.reproduce.agreement import contradiction
from benchmarks.reproduce.logs import current_step, last_line
from benchmarks.reproduce.options import Options, parse
from benchmarks.reproduce.plan import make_run, runs_of
from benchmarks.reproduce.systems import SYSTEMS
from spd_lightning.cli.arguments import shipped_configs
from spd_lightning.files.whole import WriteError
from tests.benchmarks.fabricated import CONFIG, make_system, scores_of, write_run


@pytest.mark.parametrize(
    ("config", "run", "said"),
    [
        ({"a": 1}, {}, ""),
        ({"trainer": {"max_steps": 9, "log_every_n_steps": 1}}, {"trainer": {"max_steps": 9}}, ""),
        ({"trainer": {"max_steps": 9}}, {"trainer": {"max_steps": 8}}, "trainer.max_steps 8 in the run, 9 in the"),
        ({"model": {"lr": 0.1}}, {"model": {"lr": 0.1, "leak": "linear"}}, ""),
        ({"model": {"lr": "1e-3"}}, {"model": {"lr": 0.001}}, ""),  # YAML reads 1e-3 as text
        ({"model": {"lr": 0.1}}, {"model": {}}, "model.lr missing in the run, 0.1 in the config"),
        ({"model": {"recipe": None}}, {"model": {"recipe": None}}, ""),
        ({"model": {"hidden": [16]}}, {"model": {"hidden": [16, 8]}}, "model.hidden [16, 8] in the run"),
        ({"model": {"target": {"class_path": "Toy"}}}, {"model": {"target": {"class_path": "p.Toy"}}}, ""),
        ({"model": {"target": {"class_path": "Toy"}}}, {"model": {"target": {"class_path": "p.Boy"}}}, "p.Boy in"),
        ({"model": {"sites": {"a": 1}}}, {"model": {"sites": {"a": 1, "b": 2}}}, "model.sites.b in the run, not in"),
        ({"data": {"init_args": {"n": 1}}}, {"data": None}, "data None in the run"),
    ],
)
def test_what_contradicts_a_config(config, run, said):
    found = contradiction(config, run)
    assert found.startswith(said) or said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_registry_names_shipped_configs_of_that_system(name):
    system = SYSTEMS[name]
    assert not system.twin or SYSTEMS[system.twin].twin == name
    assert bool(system.twin) == bool(system.published.where)
    assert system.config.startswith("paper/") == name.startswith("paper_")
    assert system.expected_alive("linear1" if "tms" in name else "layers.0.mlp_out") is not None
    if (shipped_configs() / system.config).is_file():
        assert make_run(system, 0, shipped_configs()).steps >= 1000


def test_the_paper_is_quoted_as_printed():
    printed = {name: (system.published.mmcs, system.published.ml2r) for name, system in SYSTEMS.items()}
    assert printed["tms_5-2"] == ((1.0, 0.0), (0.993, 0.002))
    assert printed["tms_40-10"] == ((1.0, 0.0), (1.01, 0.007))
    assert printed["tms_5-2-id"] == ((1.0, 0.0), (0.992, 0.01))
    assert printed["paper_tms_40-10-id"] == ((1.0, 0.0), (1.031, 0.001))
    assert SYSTEMS["residual_mlp_2"].expected_alive("layers.1.mlp_out") == 25
    assert SYSTEMS["residual_mlp_3"].expected_alive("layers.2.mlp_in") == 102
    assert SYSTEMS["tms_40-10-id"].expected_alive("hidden_layers.0") == 10
    assert SYSTEMS["tms_5-2"].expected_alive("embedding") is None


def test_systems_and_seeds_are_chosen():
    ours = parse([], SYSTEMS)
    assert [system.name for system in ours.systems] == [name for name in SYSTEMS if not name.startswith("paper_")]
    assert len(runs_of(ours.systems, ours.seeds, ours.runs)) == 4 * 5 + 3 * 3 + 2 * 3

    some = parse(["--systems", "tms_40-10", "tms_5-2", "--seeds", "3", "1", "3", "--paper"], SYSTEMS)
    assert [system.name for system in some.systems] == ["tms_5-2", "tms_40-10", "paper_tms_5-2", "paper_tms_40-10"]
    assert some.seeds == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--systems", "tms_5-3"], "--systems must name some of tms_5-2, "),
        (["--seeds", "one"], "--seeds takes whole numbers, separated by spaces, got 'one'"),
        (["--seeds", "-1"], "--seeds must lie between 0 and 4294967295, got -1"),
        (["--jobs", "0"], "--jobs must lie between 1 and 1024, got 0"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, tmp_path, capsys):
    assert main([*arguments, "--runs", str(tmp_path / "runs")], SYSTEMS) == 2

    written = capsys.readouterr().err
    assert written.startswith("error: ")
    assert said in written
    assert written.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    def full(runs, options):
        raise WriteError(tmp_path / "process.json", errno.ENOSPC)

    monkeypatch.setattr("benchmarks.reproduce.__main__.make", full)
    assert main(["--runs", str(tmp_path / "runs")], {"tms_5-2": make_system(tmp_path)}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "process.json' cannot be written (No space left on device)" in line


def test_jobs_come_before_threads(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12), raising=False)
    assert Options(()).shared_out(30) == (8, 1)
    assert Options(()).shared_out(4) == (4, 3)
    assert Options((), jobs=3).shared_out(30) == (3, 4)
    assert Options((), jobs=20).shared_out(30) == (20, 1)


def test_unusable_runs_are_skipped_and_the_code_says_so(tmp_path, capsys):
    runs = tmp_path / "runs"
    write_run(runs / "tms_5-2", 0, scores_of())
    other = {**CONFIG, "trainer": {"max_steps": 7}}
    write_run(runs / "tms_5-2", 1, config=other)
    systems = {"tms_5-2": make_system(tmp_path)}

    assert main(["--runs", str(runs)], systems) == 1

    written = capsys.readouterr()
    assert "tms_5-2 seed 1: left alone: it was made with other settings (trainer.max_steps 7" in written.err
    assert "Traceback" not in written.err
    assert "| left alone: it was made" in (runs / "results.md").read_text()
    assert "1 of 2 seeds recovered" in (runs / "results.md").read_text()


def test_a_missing_config_stops_its_own_system_alone(tmp_path, capsys):
    runs = tmp_path / "runs"
    write_run(runs / "tms_5-2", 0, scores_of())
    systems = {name: make_system(tmp_path, name, (0,)) for name in ("tms_5-2", "lost")}
    (tmp_path / "lost.yaml").unlink()

    assert main(["--runs", str(runs)], systems) == 1

    assert "lost seed 0: left alone: config" in capsys.readouterr().err
    assert "1 of 1 seeds recovered" in (runs / "results.md").read_text()


def test_published_tables_are_not_replaced_by_a_part(tmp_path, monkeypatch, capsys):
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    monkeypatch.setattr("benchmarks.reproduce.document.RUNS", runs)
    monkeypatch.setattr("benchmarks.reproduce.document.DOCS", docs)
    systems = {name: make_system(tmp_path, name, (0,)) for name in ("a", "b")}
    write_run(runs / "a", 0, scores_of())

    assert main(["--table-only", "--runs", str(runs)], systems) == 0
    assert (runs / "results.md").is_file()
    assert not docs.exists()
    assert "b seed 0" in capsys.readouterr().out

    write_run(runs / "b", 0, scores_of())
    assert main(["--table-only", "--runs", str(runs)], systems) == 0
    assert "| b | 1 of 1 |" in (docs / "results.md").read_text()


def test_the_line_that_says_most(tmp_path):
    log = tmp_path / "a.log"
    assert last_line(log) == "nothing was written"
    log.write_text("old\rEpoch 0:  1%| | 1/9 [00:01<?, 3it/s]\nValueError: no\nstep 4/9: total 1.00e+00 (3 steps/s)\n")
    assert last_line(log) == "ValueError: no"
    assert last_line(log, log.stat().st_size) == "nothing was written"
    log.write_text("error: the config is wrong\nnever mind\n")
    assert last_line(log) == "error: the config is wrong"


def test_the_step_is_that_of_the_last_line_of_progress(tmp_path):
    log = tmp_path / "a.log"
    assert current_step(log) == 0
    log.write_text("in step 3/9: no\n")
    assert current_step(log) == 0
    log.write_text("step 1/100: total 1.0e+00 (3 steps/s)\nstep 20/100: total 1.0e+00 (3 steps/s)\nwarning\nstep 3")
    assert current_step(log) == 20
