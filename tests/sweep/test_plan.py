"""Sweep files, and how plans are joined."""

import pytest

from spd_lightning import UsageError
from spd_lightning.cli.arguments import find_sweep
from spd_lightning.sweep import SweepPlan
from spd_lightning.sweep.plan import read_plan

GRID = {"a.b": ["1e-3", "3e-3"], "seed_everything": ["0", "1"]}
PLAN = SweepPlan(("tms.yaml",), {"trainer.max_steps": "5"}, (GRID,), "one")


def _file(tmp_path, text):
    (tmp_path / "sweep.yaml").write_text(text)
    return tmp_path / "sweep.yaml"


def test_a_sweep_file_is_read(tmp_path):
    plan = read_plan(
        _file(
            tmp_path,
            "config: tms.yaml\nname: mine\nset: {trainer.max_steps: 5}\n"
            "over:\n  a.b:\n  - 1e-3\n  - 2.4e-3\n  hidden: [[8], [16, 16]]\n",
        )
    )

    assert plan == SweepPlan(
        ("tms.yaml",), {"trainer.max_steps": "5"}, ({"a.b": ["1e-3", "2.4e-3"], "hidden": ["[8]", "[16, 16]"]},), "mine"
    )


def test_what_is_written_is_read_back(tmp_path):
    grids = (GRID, {"a.b": ["[1, {c: 'd, e'}]", "x: y"], "seed_everything": ["2"]})
    plan = SweepPlan(("tms.yaml", "/some/where.yaml"), {"c+": "{x: [1, 2]}", "d": "a, b"}, grids, "1e3")

    again = read_plan(_file(tmp_path, plan.text()))

    assert again == plan
    assert len(again.points) == 6


def test_the_shipped_sweep_surrounds_the_default_by_a_decade_each_way():
    plan = read_plan(find_sweep("importance_tms_5-2.yaml"))

    assert plan.resolved().configs == ("tms.yaml",)
    coefficients = [float(value) for value in plan.grids[0]["model.losses.importance.coefficient"]]
    assert [value / 2.4e-3 for value in coefficients] == pytest.approx([0.1, 0.316, 1, 3.16, 10], rel=5e-3)
    assert plan.grids[0]["seed_everything"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "must be a mapping"),
        ("over: [", "while parsing a flow"),
        ("overs: {a: [1]}", "unknown key 'overs'; a sweep file has the keys name, config, set, over"),
        ("over: {a: 3}", "a: must be a list of values, got 3"),
        ("over: {a: []}", "a: the list of values is empty"),
        ("over: {a: [1, 1]}", "a: values must differ"),
        ("over: {a: [1], a: [2]}", "over holds 'a' twice"),
        ("over: [{a: [1]}, {b: [1]}]", "all entries of over must sweep the same keys"),
        ("set: [1]", "set must be a mapping"),
    ],
)
def test_a_bad_sweep_file_is_refused_in_one_line(text, said, tmp_path):
    with pytest.raises(UsageError, match=r"^sweep file '.*sweep\.yaml': ") as refused:
        read_plan(_file(tmp_path, text))

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "sweep.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(UsageError, match=r"^sweep file"):
        read_plan(tmp_path / "sweep.yaml")


def test_new_points_are_added_behind_the_old_ones():
    more = SweepPlan(PLAN.configs, PLAN.settings, ({"seed_everything": ["1", "2"], "a.b": ["0.003", "1"]},), "one")

    both = PLAN.joined(more)

    pairs = [tuple(point.values()) for point in both.points]
    assert pairs[:4] == [("1e-3", "0"), ("1e-3", "1"), ("3e-3", "0"), ("3e-3", "1")]
    assert pairs[4:] == [("0.003", "2"), ("1", "1"), ("1", "2")]
    assert list(both.named_points)[:4] == list(PLAN.named_points)


def test_nothing_new_changes_nothing():
    part = SweepPlan(PLAN.configs, {"trainer.max_steps": "5.0"}, ({"a.b": ["0.003"], "seed_everything": ["1"]},), "one")

    assert PLAN.joined(part) is PLAN


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (SweepPlan(("x.yaml",), PLAN.settings, PLAN.grids), r"exists with another config \(tms.yaml\)"),
        (SweepPlan(PLAN.configs, {}, PLAN.grids), r"exists with another --set \(trainer.max_steps=5\)"),
        (SweepPlan(PLAN.configs, PLAN.settings, ({"a.b": ["1"]},)), r"swept keys \(a.b, seed_everything\)"),
    ],
)
def test_another_plan_under_the_same_name_is_refused(other, said):
    with pytest.raises(UsageError, match=said):
        PLAN.joined(other)
