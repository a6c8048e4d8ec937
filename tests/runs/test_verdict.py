"""One rule says what counts as recovered."""

import pytest

from spd_lightning.runs.verdict import known_sites, pattern_contradictions, shortfalls


def _site(site="layers.0.mlp_in", kind="identity", **changes):
    own = {
        "mechanisms": 5.0,
        f"{kind}_contradictions_0.1": 2.0,
        f"{kind}_contradictions_0.2": 0.0,
        "mmcs": 1.0,
        "ml2r": 1.0,
    }
    alive = changes.pop("alive", 5.0)
    scores = {f"recovery/{site}/{name}": value for name, value in (own | changes).items() if value is not None}
    return {f"alive/{site}": alive, **scores, "ablation/unmasked": 1e-6}


def test_everything_within_bounds_falls_short_of_nothing():
    assert shortfalls(_site() | _site("hidden", "dense", mmcs=None, ml2r=None, pearson=0.99)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alive": 6.0}, "6 alive for 5 mechanisms"),
        ({"identity_contradictions_0.2": 3.0}, "3 contradictions at 0.2"),
        ({"mmcs": 0.9989}, "MMCS 0.9989"),
        ({"ml2r": 1.031}, "ML2R 1.0310"),
        ({"ml2r": 0.969}, "ML2R 0.9690"),
        ({"ml2r": float("nan")}, "ML2R nan"),
        ({"pearson": 0.9899}, "Pearson r 0.9899"),
        ({"identity_contradictions_0.1": None, "identity_contradictions_0.2": None}, "importance pattern not scored"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_broken_bound_is_named_with_what_was_reached(change, said):
    assert shortfalls(_site(**change)) == [f"layers.0.mlp_in: {said}"]


@pytest.mark.parametrize("unmasked", [1.1e-5, float("nan")])
def test_a_sum_that_does_not_reproduce_the_network_falls_short(unmasked):
    assert shortfalls(_site() | {"ablation/unmasked": unmasked}) == [f"unmasked error {unmasked:.1e}"]


def test_bounds_themselves_are_allowed():
    assert shortfalls(_site(mmcs=0.999, ml2r=0.97) | {"ablation/unmasked": 1e-5}) == []
    assert shortfalls(_site(ml2r=1.03, pearson=0.99)) == []


def test_a_run_that_scored_nothing_is_not_recovered():
    assert shortfalls({"l0/linear1": 1.0}) == ["no mechanisms were scored"]


def test_sites_and_patterns_are_read_from_the_names_of_scores():
    scores = _site("b") | _site("a/x", "dense")

    assert known_sites(scores) == ["b", "a/x"]
    assert pattern_contradictions(scores, "a/x") == ("dense", [("0.1", 2), ("0.2", 0)])
    assert pattern_contradictions(scores, "c") == ("-", [])


def test_counts_under_the_name_of_version_0_1_are_read():
    old = {"recovery/a/identity_error_0.2": 0.0, "recovery/a/identity_error_0.1": 2.0}

    assert pattern_contradictions(old, "a") == ("identity", [("0.1", 2), ("0.2", 0)])
