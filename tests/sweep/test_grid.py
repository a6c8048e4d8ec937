"""Values, points and names, as text."""

import pytest

from spd_lightning import UsageError
from spd_lightning.sweep.grid import expand, meaning, read_assignment, read_values, run_names, short_keys, yaml_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-3,3e-3, 1.0e-2", ["1e-3", "3e-3", "1.0e-2"]),
        ("0", ["0"]),
        ("[8],[16, 16]", ["[8]", "[16, 16]"]),
        ("{a: 1, b: [x, 2]},null", ["{a: 1, b: [x, 2]}", "null"]),
        ("'a, b',true,-1", ["a, b", "true", "-1"]),
    ],
)
def test_values_keep_the_form_they_were_typed_in(text, values):
    assert read_values("k", text) == values
    assert read_values("k", ", ".join(map(yaml_of, values))) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "k: the list of values is empty"),
        ("1,2,1.0", "k: values must differ, got 1 and 1.0"),
        ("1e-3,0.001", "k: values must differ, got 1e-3 and 0.001"),
        ("1,,2", "k: values must be separated by commas"),
        ("[1", "k: values must be separated by commas"),
    ],
)
def test_values_that_are_refused(text, said):
    with pytest.raises(UsageError, match=said):
        read_values("k", text)


@pytest.mark.parametrize("text", ["a", "=3", "a b=3", ".a=3", "--a=3"])
def test_an_assignment_needs_a_dotted_key(text):
    with pytest.raises(UsageError, match="--over must be KEY=VALUE"):
        read_assignment(text, "--over")


def test_a_value_may_hold_an_equals_sign():
    assert read_assignment("a.b=c=d", "--set") == ("a.b", "c=d")


def test_the_last_key_varies_fastest():
    points = [tuple(point.values()) for point in expand({"a": ["1", "2"], "b": ["x", "y"]})]

    assert points == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]


def test_keys_are_as_short_as_they_can_be_told_apart():
    assert short_keys(["model.losses.importance.init_args.coefficient", "seed_everything", "data.batch_size"]) == {
        "model.losses.importance.init_args.coefficient": "importance.coefficient",
        "seed_everything": "seed_everything",
        "data.batch_size": "data.batch_size",
    }
    twins = short_keys(["model.optimization.a.lr", "model.warmup.a.lr"])
    assert list(twins.values()) == ["optimization.a.lr", "warmup.a.lr"]


def test_names_are_readable_and_safe():
    points = expand({"model.losses.importance.coefficient": ["1e-3", "-1"], "model.x": ["[16, 16]", "../up", "a b"]})

    assert run_names(points)[:4] == [
        "importance.coefficient=1e-3,model.x=16_16",
        "importance.coefficient=1e-3,model.x=.._up",
        "importance.coefficient=1e-3,model.x=a_b",
        "importance.coefficient=-1,model.x=16_16",
    ]


def test_names_that_would_collide_are_told_apart_and_do_not_depend_on_later_points():
    points = expand({"a.b": ["[1, 2]", "[[1, 2]]", "1_2", "A", "a"]})

    names = run_names(points)

    assert len({name.casefold() for name in names}) == 5
    assert names[0] == "a.b=1_2"
    assert all(run_names(points[:count]) == names[:count] for count in range(1, 5))


def test_a_name_that_is_too_long_ends_in_a_hash():
    long, other = run_names([{"a.b": "x" * 300}, {"a.b": "x" * 301}])

    assert len(long) <= 120
    assert long[:20] == other[:20] == "a.b=" + 16 * "x"
    assert long != other


def test_the_same_number_means_the_same():
    assert meaning("1e-3") == meaning("0.001") != meaning("1e-2")
    assert meaning("adam") != meaning("sgd")
