"""What a table says about run directories that were written by hand."""

import csv
import json

import pytest

from benchmarks.seeds.document import publish, write_table
from benchmarks.seeds.draw import Draw
from benchmarks.seeds.pictures import draw, number
from benchmarks.seeds.plan import TablePlan
from benchmarks.seeds.table import groups_of, reason
from spd_lightning.sweep.plan import SweepPlan
from tests.benchmarks.fabricated import (
    CONFIG,
    KEY,
    entry,
    made,
    scores_of,
    three_values,
    write_run,
    written_values,
)


def only(folder, scores=None, **options):
    """The result of a single run."""
    write_run(folder, 0, scores, **options)
    (group,) = groups_of([entry("tms", made(folder, [0]))])
    return group.results[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"contradictions": 2.0}, "linear1: 2 contradictions at 0.2"),
        ({"alive": 7.0}, "linear1: 7 alive for 5 mechanisms"),
        ({"mmcs": 0.98}, "linear1: MMCS 0.9800"),
        ({"ml2r": 0.9, "alive": 4.0}, "linear1: 4 alive for 5 mechanisms, ML2R 0.9000"),
        ({"ml2r": float("nan")}, "linear1: ML2R nan"),
    ],
)
def test_what_was_measured_is_the_reason(changes, said, tmp_path):
    assert reason(only(tmp_path, scores_of(**changes))) == said


def test_a_sum_that_is_not_the_network_is_a_reason(tmp_path):
    assert reason(only(tmp_path, scores_of() | {"ablation/unmasked": 3e-4})) == "unmasked error 3.0e-04"


def test_a_target_that_drops_features_is_told(tmp_path):
    dropped = scores_of(alive=4.0) | {"recovery/linear1/mechanisms": 4.0}
    said = "The target itself represents only 4 of its 5 features; the others are not scored."

    result = only(tmp_path / "a", dropped)
    assert result.shortfalls == []
    assert reason(result) == said  # recovered, but of less
    assert (
        reason(only(tmp_path / "b", dropped | {"alive/linear1": 5.0})) == f"linear1: 5 alive for 4 mechanisms; {said}"
    )


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "step 1/9: loss 1\nerror: ValueError: the loss is NaN (a.py:3)\n",
            "failed: ValueError: the loss is NaN (a.py:3)",
        ),
        ("error: once\ninterrupted: the last step is saved\n", "not finished: error: once"),
        (
            "interrupted: the last step is saved\nstep 3/9: loss 1\n",
            "not finished: interrupted: the last step is saved",
        ),
        ("error: once\nerror: no memory (killed by signal 9)\n", "failed: no memory (killed by signal 9)"),
    ],
)
def test_the_end_of_its_log_tells_of_a_run_without_scores(log, said, tmp_path):
    (tmp_path / "seed_0.log").write_text(log)
    assert reason(only(tmp_path)) == said


def test_runs_of_other_settings_are_left_alone_and_not_counted(tmp_path):
    other = {**CONFIG, "data": {"class_path": "SparseFeatures", "init_args": {"batch_size": 32}}}
    write_run(tmp_path, 0, scores_of(), config=other)
    write_run(tmp_path, 1, scores_of(), version="0.0.1")
    (group,) = groups_of([entry("tms", made(tmp_path, [0, 1]))])

    assert (group.recovered, group.count, group.interval) == (0, 0, None)
    first, second = map(reason, group.results)
    assert "data.init_args.batch_size 32 in the run, 16 in the config" in first
    assert "made by version 0.0.1" in second
    assert "move or remove" in first


def test_a_run_that_was_stopped_is_listed_as_not_counted(tmp_path):
    write_run(tmp_path / "runs", 0)
    (tmp_path / "runs/seed_0.log").write_text("interrupted: the last step is saved\n")
    write_table(tmp_path, TablePlan("mine"), [entry("tms", made(tmp_path / "runs", [0]))])

    page = (tmp_path / "seeds.md").read_text()
    assert "Not recovered:" not in page
    assert page.split("Not counted:")[1].splitlines()[-1] == (
        "| tms | 0 | not finished: interrupted: the last step is saved |"
    )


@pytest.fixture
def varied(tmp_path):
    return written_values(tmp_path)


def test_the_page_says_how_often_and_why_not(varied, tmp_path):
    write_table(tmp_path, TablePlan("mine"), [varied])

    page = (tmp_path / "seeds.md").read_text().split("## mine")[1]
    assert page.splitlines()[2:7] == [
        "| entry | value | recovered | share, 95 % interval | still to do | mean steps | mean wall time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| tms | importance.coefficient=1e-3 | 3 of 3 | 1.00, 0.44 to 1.00 | - | 100 | 20 s |",  # 3 / (3 + 1.96²)
        "| tms | importance.coefficient=1e-2 | 1 of 2 | 0.50, 0.09 to 0.91 | 1 | 100 | 15 s |",
        "| tms | importance.coefficient=1e-1 | 0 of 1 | 0.00, 0.00 to 0.79 | 2 | - | - |",
    ]
    assert page.splitlines()[-3:] == [
        "| --- | --- | --- | --- |",
        "| tms | importance.coefficient=1e-2 | 1 | linear1: 9 alive for 5 mechanisms |",
        "| tms | importance.coefficient=1e-1 | 0 | failed: it broke \\| badly |",
    ]
    with (tmp_path / "mine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["recovered"], row["runs"], row["still to do"]) for row in rows] == [
        ("3", "3", "0"),
        ("1", "2", "1"),
        ("0", "1", "2"),
    ]
    assert float(rows[0]["low"]) == pytest.approx(3 / 6.84146, rel=1e-5)
    with (tmp_path / "mine_runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recovered"] for row in rows] == ["1", "1", "1", "1", "0", "", "", "", ""]
    assert rows[4]["verdict"] == "linear1: 9 alive for 5 mechanisms"
    assert rows[4]["alive/linear1"] == "9.0"


def test_a_varied_value_is_drawn_with_its_numbers_beside(varied, tmp_path):
    picture = tmp_path / "tms.png"
    assert draw(varied, groups_of([varied, entry("other", varied.runs)]), picture)

    assert picture.read_bytes().startswith(b"\x89PNG")
    data = json.loads((tmp_path / "tms.json").read_text())
    assert data["key"] == KEY
    assert [(row["value"], row["recovered"], row["runs"]) for row in data["rows"]] == [
        (0.001, 3, 3),
        (0.01, 1, 2),
        (0.1, 0, 1),
    ]
    assert data["rows"][0]["low"] == pytest.approx(0.4385, abs=1e-4)


def test_a_single_value_that_was_run_is_not_drawn(varied, tmp_path):
    for value in ("1e-2", "1e-1"):
        (tmp_path / "runs" / value).rename(tmp_path / value)
    alone = three_values(tmp_path)
    assert not draw(alone, groups_of([alone]), tmp_path / "one.png")
    assert not (tmp_path / "one.png").exists()


def test_an_earlier_picture_does_not_stand_beside_new_numbers(varied, tmp_path):
    docs, plan = tmp_path / "docs", TablePlan("mine")
    publish(tmp_path, plan, [varied], docs)
    pictures = [tmp_path / "figures/tms", docs / "images/seeds/mine_tms"]
    write_table(tmp_path, plan, [varied])  # while runs are made, nothing is drawn
    assert "![tms" not in (tmp_path / "seeds.md").read_text()

    for value in ("1e-2", "1e-1"):
        (tmp_path / "runs" / value).rename(tmp_path / value)
    publish(tmp_path, plan, [three_values(tmp_path)], docs)
    assert all("![tms" not in (folder / "seeds.md").read_text() for folder in (tmp_path, docs))
    assert not any(picture.with_suffix(end).exists() for picture in pictures for end in (".png", ".json"))


def test_only_one_numeric_value_is_drawn(tmp_path):
    for name, values in {"words": ("linear", "one_sided"), "one": ("1",), "twice": ("1", "1.0")}.items():
        runs = [run for value in values for run in made(tmp_path / name / value, [0], "model.leak", value)]
        for value in values:
            write_run(tmp_path / name / value, 0, scores_of())
        assert not draw(entry(name, runs), groups_of([entry(name, runs)]), tmp_path / "none.png")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("value", "place"),
    [("1e-3", 0.001), (8, 8.0), ({"linear1": 20, "linear2": 40}, 20.0), ({}, None), (True, None), ("x", None)],
)
def test_values_have_places_on_an_axis(value, place):
    assert number(value) == place


def test_the_documentation_keeps_what_it_says_of_other_tables(varied, tmp_path):
    docs = tmp_path / "docs"
    publish(tmp_path / "b", TablePlan("b"), [varied], docs)
    publish(tmp_path / "a", TablePlan("a", draw=Draw(2, 7)), [entry("other", made(tmp_path / "o", [0]))], docs)
    publish(tmp_path / "a", TablePlan("a", draw=Draw(2, 7)), [entry("other", made(tmp_path / "o", [0]))], docs)

    page = (docs / "seeds.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Seeds, sizes and settings",
        "## a",
        "## b",
    ]
    assert "Sizes were drawn with seed 7" in page
    assert "![tms: recovered share](images/seeds/b_tms.png)" in page
    for path in ("images/seeds/b_tms.png", "images/seeds/b_tms.json", "seeds/b.csv", "seeds/b_runs.csv"):
        assert (docs / path).is_file()
        assert path.endswith("json") or path in page


def test_the_first_config_is_the_system_and_all_are_told(tmp_path):
    write_run(tmp_path / "runs", 0, scores_of())
    (run,) = made(tmp_path / "runs", [0])
    assert run.expected_s == pytest.approx(0.25)  # 2.5 ms for each of 100 steps
    run.entry = SweepPlan(("tms_40-10.yaml", "default.yaml"))
    assert run.expected_s == pytest.approx(1.5)

    write_table(tmp_path, TablePlan("mine"), [entry("tms", [run])])
    with (tmp_path / "mine_runs.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["config"] == "tms_40-10.yaml default.yaml"


def test_targets_without_all_features_are_listed_once(tmp_path):
    dropped = scores_of(alive=4.0) | {"recovery/linear1/mechanisms": 4.0}
    for seed in (0, 1):
        write_run(tmp_path / "runs", seed, dropped)
    write_table(tmp_path, TablePlan("mine"), [entry("tms", made(tmp_path / "runs", [0, 1]))])

    page = (tmp_path / "seeds.md").read_text()
    assert "| tms | 2 of 2 |" in page
    assert page.count("- tms: The target itself represents only 4 of its 5 features") == 1
    assert "Not recovered:" not in page
