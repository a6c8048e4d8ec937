"""What the command line makes of a plan of seeds."""

import pytest

from benchmarks.seeds.options import parse
from benchmarks.seeds.plan import read_plan
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED


def test_the_command_line_changes_a_plan():
    options = parse(["hundred", "--seeds", "3", "5-6", "--set", "trainer.max_steps=9", "--name", "short"])
    (entry,) = options.plan.entries
    assert [point[SEED] for point in entry.points] == ["3", "5", "6"]
    assert entry.fixed == {"trainer.max_steps": "9"}
    assert (options.plan.name, options.folder.name, options.jobs, options.docs) == ("short", "short", 1, None)

    some = parse(["plateaus", "--entries", "tms_5-2_*", "tms_40-10_C"])
    assert some.entries == ("tms_5-2_tolerance", "tms_5-2_C", "tms_5-2_batch", "tms_5-2_rates", "tms_40-10_C")
    assert len(some.plan.entries) == 12  # the others stay in the table


def test_seeds_of_the_command_line_do_where_a_plan_has_none(tmp_path):
    (tmp_path / "mine.yaml").write_text("entries: [{config: tms.yaml}]")
    (entry,) = parse([str(tmp_path / "mine.yaml"), "--seeds", "3-4"]).plan.entries
    assert entry.points == [{SEED: "3"}, {SEED: "4"}]


def test_a_stored_plan_is_drawn_anew_where_another_draw_is_asked_for(tmp_path):
    stored = tmp_path / "stored.yaml"
    stored.write_text(parse(["--draw", "2", "--seed", "1"]).plan.text())
    sizes = {
        tuple(words): [entry.name for entry in parse([*words]).plan.drawn]
        for words in ([str(stored)], [str(stored), "--draw", "3", "--seed", "99"], ["--draw", "3", "--seed", "99"])
    }
    same, again, anew = sizes.values()
    assert again == anew
    assert same == [entry.name for entry in read_plan(stored).drawn]
    assert len(same) == 2


def test_seeds_and_settings_are_those_of_the_chosen_entries():
    options = parse(["systems", "--entries", "tms_5-2*", "--seeds", "3-4", "--set", "trainer.max_steps=9"])
    found = {entry.name: entry for entry in options.plan.entries}

    for name in ("tms_5-2", "tms_5-2-id"):
        assert found[name].points == [{SEED: "3"}, {SEED: "4"}]
        assert found[name].fixed == {"trainer.max_steps": "9"}
    assert found["tms_40-10"].points == [{SEED: "0"}, {SEED: "1"}, {SEED: "2"}]
    assert not found["tms_40-10"].fixed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "plan 'nowhere' does not exist; shipped plans are hundred, larger, plateaus, systems, unseen"),
        (["hundred", "--entries", "x*"], "--entries: 'x*' is none of tms_5-2"),
        (["--draw", "3"], "--draw needs --seed"),
        (["--draw", "many", "--seed", "1"], "--draw must be a whole number up to 1000, got 'many'"),
        (["hundred", "--jobs", "0"], "--jobs must lie between 1 and 1024, got 0"),
        (["hundred", "--set", "trainer.max_steps"], "--set must be KEY=VALUE"),
        (["hundred", "--name", "../x"], "--name must start with a letter or digit"),
        ([], "a table needs entries"),
    ],
)
def test_wrong_usage_is_refused(arguments, said):
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    assert said in str(refused.value)


def test_runs_of_other_settings_are_not_asked_for():
    with pytest.raises(UsageError, match="--keep would count published runs made without --set"):
        parse(["hundred", "--set", "trainer.max_steps=9", "--write", "--keep"])
