"""What the documentation keeps of a table whose runs are not on this machine."""

import csv
from dataclasses import replace

import pytest

from benchmarks.reproduce.sheet import write_rows
from benchmarks.seeds.__main__ import main
from benchmarks.seeds.document import publish
from benchmarks.seeds.plan import TablePlan
from benchmarks.seeds.published import published_rows
from spd_lightning.errors import UsageError
from tests.benchmarks.fabricated import entry, made, scores_of, three_values, write_run, written_values
from tests.sweep.conftest import LEAN

SHEETS = ("mine.csv", "mine_runs.csv")
PLAN = """\
entries:
- {{name: plain, config: {config}, seeds: 0}}
- {{name: varied, config: {config}, seeds: 0-1, over: {{data.batch_size: [16, 32]}}}}
"""


def test_runs_that_are_not_here_are_kept_where_asked(tmp_path):
    docs, plan = tmp_path / "docs", TablePlan("mine")
    publish(tmp_path / "a", plan, [written_values(tmp_path)], docs)
    page, sheets = (docs / "seeds.md").read_text(), [(docs / "seeds" / name).read_text() for name in SHEETS]
    drawn = (docs / "images/seeds/mine_tms.json").read_text()
    assert "failed: it broke" in page  # a process that failed is a verdict, too
    (tmp_path / "runs").rename(tmp_path / "elsewhere")

    publish(tmp_path / "a", plan, [three_values(tmp_path)], docs, keep=True)
    assert (docs / "seeds.md").read_text() == page
    assert [(docs / "seeds" / name).read_text() for name in SHEETS] == sheets
    assert (docs / "images/seeds/mine_tms.json").read_text() == drawn
    assert "0 of 0" in (tmp_path / "a/seeds.md").read_text()

    write_run(tmp_path / "runs/1e-3", 0)  # begun anew: nothing is known of it yet
    write_run(tmp_path / "runs/1e-2", 1, scores_of(), wall_s=20.0)  # made anew: what is here counts
    publish(tmp_path / "a", plan, [three_values(tmp_path)], docs, keep=True)
    assert "| tms | importance.coefficient=1e-3 | 3 of 3 |" in (docs / "seeds.md").read_text()
    assert "| tms | importance.coefficient=1e-2 | 2 of 2 |" in (docs / "seeds.md").read_text()

    publish(tmp_path / "a", plan, [three_values(tmp_path)], docs)
    assert "| tms | importance.coefficient=1e-3 | 0 of 0 |" in (docs / "seeds.md").read_text()


def test_runs_of_another_number_of_steps_are_not_kept(tmp_path):
    docs, plan = tmp_path / "docs", TablePlan("mine")
    publish(tmp_path / "a", plan, [written_values(tmp_path)], docs)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    longer = three_values(tmp_path)
    for run in longer.runs[1:]:
        run.swept = replace(run.swept, config={**run.swept.config, "trainer": {"max_steps": 200}})

    publish(tmp_path / "a", plan, [longer], docs, keep=True)
    assert "| tms | importance.coefficient=1e-3 | 1 of 1 |" in (docs / "seeds.md").read_text()


@pytest.fixture
def table(tmp_path):
    """The arguments that publish a table without runs, and how its rows in the documentation are written."""
    (tmp_path / "tiny.yaml").write_text(LEAN)
    (tmp_path / "mine.yaml").write_text(PLAN.format(config=tmp_path / "tiny.yaml"))
    where = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "docs")]

    def written(*rows):
        write_rows(tmp_path / "docs/seeds/mine_runs.csv", [_row(*row) for row in rows])

    return [str(tmp_path / "mine.yaml"), *where, "--table-only", "--write", "--keep"], written


def _row(entry, value, seed, verdict="recovered"):
    row = {"entry": entry, "value": value, "seed": seed, "config": "default.yaml", "verdict": verdict}
    if verdict != "recovered":
        return row | {"state": "absent", "recovered": ""}
    found = scores_of(alive=3.0) | {"recovery/linear1/mechanisms": 3.0}
    scores = {f"score/{name}": score for name, score in found.items()}
    return row | {"state": "finished", "recovered": 1, "steps": 6, **scores}


def _rows(docs):
    with (docs / "seeds/mine_runs.csv").open(newline="") as file:
        return [(row["entry"], row["value"], row["seed"], row["verdict"]) for row in csv.DictReader(file)]


def test_seeds_and_values_that_the_plan_has_not_stay(table, tmp_path):
    arguments, written = table
    published = [
        ("plain", "", "7", "recovered"),
        ("plain", "", "8", "failed: it broke"),
        ("varied", "data.batch_size=64", "1", "recovered"),
        ("varied", "data.batch_size=32.0", "1", "recovered"),
        ("varied", "data.batch_size=64", "2", "not finished: nothing was written"),
    ]
    written(*published)
    command = [*arguments, "--seeds", "1"]

    assert main(command) == 0
    to_do = "not finished: nothing was written"
    assert _rows(tmp_path / "docs") == [
        *published[:2],
        ("plain", "", "1", to_do),
        ("varied", "data.batch_size=64", "1", "recovered"),
        ("varied", "data.batch_size=64", "2", to_do),
        ("varied", "data.batch_size=32", "1", "recovered"),
        ("varied", "data.batch_size=16", "1", to_do),
    ]
    page = (tmp_path / "docs/seeds.md").read_text()
    assert "| plain | - | 1 of 2 |" in page
    assert "| varied | data.batch_size=64 | 1 of 1 |" in page
    assert "batch_size=64" not in (tmp_path / "runs/mine/seeds.md").read_text()


def test_a_verdict_that_fits_no_entry_is_not_lost(table, tmp_path, capsys):
    arguments, written = table
    written(("other", "", "0"))
    before = _rows(tmp_path / "docs")

    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("the plan has no entry 'other'; put it into the plan, or leave --keep out to drop it")
    assert _rows(tmp_path / "docs") == before
    assert not (tmp_path / "runs").exists()


def test_a_verdict_on_what_an_entry_does_not_vary_is_not_lost(table, tmp_path):
    written = table[1]
    entries = [entry("plain", made(tmp_path, [0]))]
    written(("plain", "data.batch_size=16", "0"))
    with pytest.raises(UsageError, match=r"the plan has no entry 'plain' with data\.batch_size=16; put it"):
        published_rows(entries, tmp_path / "docs/seeds/mine_runs.csv")

    written(("plain", "data.batch_size=16", "0", "not finished: nothing was written"), ("plain", "", "3"))
    assert len(published_rows(entries, tmp_path / "docs/seeds/mine_runs.csv")) == 1
