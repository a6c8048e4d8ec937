"""The page on many runs."""

import shutil

import pytest

from spd_lightning.report import TableRow, read_run, table_page
from tests.report.reader import Page


@pytest.fixture
def make(finished, rewrite, tmp_path):
    """A further run with scores of its own."""

    def further(system, seed, scores=None, **document):
        folder = tmp_path / "made" / system / f"seed_{seed}"
        shutil.copytree(finished, folder)
        rewrite(folder, scores, seed=seed, **document)
        return TableRow(system, str(seed), read_run(folder))

    return further


def test_runs_keep_their_order_and_come_together_by_system(make):
    runs = [make("b", 1), make("a", 0), make("b", 0, {"alive/linear1": 4.0})]

    read = Page(table_page("All & <everything>", runs))

    assert read.text.startswith("All & <everything> All & <everything> A run counts as recovered if no importance on")
    assert read.table("system") == [["b", "1", "2", "2"], ["a", "1", "1", "1"]]
    runs_of_b, runs_of_a = [table for table in read.tables if table[0][:2] == ["seed", "verdict"]]
    assert [row[:2] for row in runs_of_b[2:]] == [
        ["1", "recovered"],
        ["0", "linear1: 4 alive for 3 mechanisms"],
    ]
    assert [row[:2] for row in runs_of_a[2:]] == [["0", "recovered"]]


def test_a_row_shows_distances_steps_time_and_memory(make):
    run = make("a", 3, {"ablation/worst_case": 0.0312}, steps=50, wall_time_s=12.0, peak_memory_mb=300.4)

    read = Page(table_page("t", [run]))

    header, needed, row = next(table for table in read.tables if table[0][:2] == ["seed", "verdict"])
    shown = dict(zip(header, row, strict=True))
    assert (shown["worst case"], shown["steps"], shown["wall time"], shown["peak memory"]) == (
        "3.1e-02",
        "50",
        "12.0 s",
        "300 MB",
    )
    assert dict(zip(header, needed, strict=True))["unmasked"] == "≤ 1e-05"
    assert "worst case over a fresh adversary (3 steps of 0.1)" in read.text


def test_sites_have_rows_by_seed_and_their_mean_and_deviation(make):
    low = {"recovery/linear1/mmcs": 0.9, "recovery/linear1/ml2r": 0.5, "recovery/linear1/pearson": 0.25}
    high = {"recovery/linear1/mmcs": 1.0, "recovery/linear1/ml2r": 1.5}

    read = Page(table_page("t", [make("a", 0, low), make("a", 1, high)]))

    linear1, linear2 = [table for table in read.tables if table[0][:2] == ["seed", "C"]]
    assert [row[:3] for row in linear1[2:4]] == [["0", "4", "3"], ["1", "4", "3"]]
    # the deviation of two values is their distance over the root of two
    assert linear1[4][0] == "mean ± sd"
    assert linear1[4][3:] == ["3.0 ± 0.0", linear1[4][4], "0.950 ± 0.071", "1.000 ± 0.707", "0.250 (1 of 2)", "", ""]
    assert linear2[4][5] == "1.000 ± 0.000"
    assert "± is the standard deviation" in read.text


def test_a_single_run_has_no_deviation(make):
    read = Page(table_page("t", [make("a", 0)]))

    assert "±" not in read.text


def test_values_that_are_not_finite_do_not_spoil_the_mean(make):
    runs = [make("a", seed, {"recovery/linear1/mmcs": value}) for seed, value in enumerate((0.5, float("nan"), 1.0))]
    runs.append(make("a", 3, {"recovery/linear1/mmcs": float("inf"), "l0/linear1": 10**400}))

    read = Page(table_page("t", runs))

    linear1 = next(table for table in read.tables if table[0][:2] == ["seed", "C"])
    assert linear1[-1][5] == "0.750 ± 0.354 (2 of 4)"


def test_runs_without_scores_say_why(make, finished, tmp_path):
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "config.yaml").write_text("a: 1")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "<b>").write_text("")
    folders = {"1": "started", "2": "odd", "3": "nowhere"}
    runs = [make("a", 0), *(TableRow("a", seed, read_run(tmp_path / name)) for seed, name in folders.items())]

    read = Page(table_page("t", runs))

    assert read.table("system") == [["a", "1", "1", "4"]]
    rows = next(table for table in read.tables if table[0][:2] == ["seed", "verdict"])[2:]
    assert [row[:2] for row in rows] == [
        ["0", "recovered"],
        ["1", "Not finished: there is a config but no final scores."],
        ["2", "Cannot be read: config.yaml is missing."],
        ["3", "Nothing there: the run was not started."],
    ]
    assert rows[1][2:] == ["-"] * 10


def test_a_system_of_which_nothing_is_finished_is_still_there(tmp_path):
    read = Page(table_page("t", [TableRow("<i>", "<b>", read_run(tmp_path / "none"))]))

    assert read.table("system") == [["<i>", "0", "0", "1"]]
    assert read.table("run", "verdict")[0][:2] == ["<b>", "Nothing there: the run was not started."]


def test_no_runs_make_an_empty_table():
    assert Page(table_page("none", [])).table("system") == []


def test_runs_of_other_targets_have_no_verdict(make):
    run = make("a", 0, None)
    scores = {"alive/own": 2.0}
    own = TableRow("a", "0", type(run.record)(run.record.folder, "finished", metrics={"scores": scores}))

    read = Page(table_page("t", [own]))

    assert read.table("seed", "verdict")[0][1] == "The target states no mechanisms, so recovery was not scored."
    assert read.table("system") == [["a", "0", "1", "1"]]


def test_machines_are_named_with_their_seeds_where_they_differ(make):
    versions = {"spd_lightning": "1"}
    same = [make("a", seed, machine="oven", versions=versions) for seed in (0, 1)]

    assert "Machine: oven, cpu, spd_lightning 1." in Page(table_page("t", same)).text
    read = Page(table_page("t", [*same, make("a", 2, machine="fridge", versions=versions)]))
    assert "Machine of 0, 1: oven, cpu, spd_lightning 1. Machine of 2: fridge, cpu, spd_lightning 1." in read.text


def test_the_main_pictures_are_inside_as_far_as_they_fit(make, png):
    runs = [make("a", 0), make("a", 1), make("b", 0)]
    for run in runs:
        figures = run.record.folder / "figures"
        (figures / "test_importance_heatmap.png").write_bytes(png(padding=1000))
        (figures / "test_contribution_agreement.png").write_bytes(png())

    read = Page(table_page("t", runs))
    assert [image["alt"] for image in read.images[:3]] == [
        "Importance heatmap, seed 0",
        "Contribution agreement, seed 0",
        "Importance heatmap, seed 1",
    ]
    assert len(read.images) == 6
    assert read.text.count("bright diagonal") == 2  # said once a system, not once a picture

    read = Page(table_page("t", runs, picture_bytes=2500))
    assert len(read.images) == 5
    said = "seed 0: test_importance_heatmap.png is left out: it would make the page too large."
    assert said in read.text
