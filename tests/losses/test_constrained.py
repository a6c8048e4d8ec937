"""The price that follows an error: its path against the formula, what it refuses, and where it leads."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.losses import ConstrainedImportance, ImportanceMinimality, Reconstruction
from tests import reference

STEPS = [
    (0.9, 0.1, 3.0),
    (0.4, 0.2, 2.5),
    (0.2, 0.9, 2.0),
    (0.05, 4.0, 1.5),
    (0.01, 0.9, 1e-3),
    (0.01, 0.01, 4.0),
    (0.3, 0.2, 4.0),
]
"""Errors of random masks and of an adversary, and the penalty."""


def _objective(**arguments):
    loss = ConstrainedImportance(**arguments)
    terms = {"stochastic": Reconstruction(relative=True), "adversary": Reconstruction(relative=True), "price": loss}
    loss.check_beside(terms)
    return loss


def _seen(error, attacked, penalty):
    numbers = {"stochastic": error, "adversary": attacked, "price": penalty}
    return {name: torch.tensor(number) for name, number in numbers.items()}


@pytest.mark.parametrize("follows", [{"stochastic": 1.0}, {"stochastic": 1.0, "adversary": 2.5}])
@pytest.mark.parametrize("knee", [0.0, 0.5])
def test_the_price_follows_the_formula_one_step_behind(knee, follows):
    moving = {"tolerance": 0.02, "start_factor": 47.5, "fall_start": 0.2, "fall_end": 0.6}
    loss = _objective(follows=follows, rate=0.5, knee=knee, **moving)
    fractions = [index / 10 for index in range(len(STEPS))]
    tolerances = [0.95 * (0.02 / 0.95) ** min(max((fraction - 0.2) / 0.4, 0), 1) for fraction in fractions]
    steps = [([error, attacked][: len(follows)], penalty) for error, attacked, penalty in STEPS]
    expected = reference.constrained_price(steps, 1e-3, tolerances, list(follows.values()), 0.5, knee, 0.95)
    found = []
    for step, fraction in zip(STEPS, fractions, strict=True):
        loss.observe(_seen(*step), fraction)
        found.append(loss.coefficient_at(fraction))
    assert found == pytest.approx([1e-3, *expected[:-1]], rel=1e-5)
    assert (max(expected) > 0.1) == bool(knee)  # else the knee would have had nothing to do


@pytest.mark.parametrize(("start", "cliff"), [(0.8, 0.8), (30.0, 30.0), (20.0, 0.8)])
def test_the_cliff_bounds_the_price_along_its_points(start, cliff):
    points = [(0.2, start), (0.7, cliff)]
    loss = _objective(rate=0.5, cliff_points=points, coefficient=1.0, tolerance=0.5, start_factor=1.9)
    fractions = [index / 10 for index in range(len(STEPS))]
    tolerances = [loss.tolerance_at(fraction) for fraction in fractions]
    fallen = [min((fraction - 0.2) / 0.5, 1.0) for fraction in fractions]
    cliffs = [start ** (1 - share) * cliff**share for share in fallen]
    ceilings = [(bound, 0.015) if share >= 0 else None for bound, share in zip(cliffs, fallen, strict=True)]
    steps = [([error], penalty) for error, _, penalty in STEPS]
    expected, free = (
        reference.constrained_price(steps, 1.0, tolerances, [1.0], 0.5, 0.5, 0.95, bounds)
        for bounds in (ceilings, None)
    )
    found = []
    for step, fraction in zip(STEPS, fractions, strict=True):
        loss.observe(_seen(*step), fraction)
        found.append(loss.price)
    assert found == pytest.approx([1.0, *expected[:-1]], rel=1e-5)
    assert (min(expected) < 0.5 * min(free)) == (cliff < 1)  # else the lower one would have had nothing to do


def test_below_three_hundredths_of_what_is_tolerated_the_cliff_does_not_fall():
    loss = _objective(cliff_points=[(0.0, 30.0)], tolerance=0.02, coefficient=5.0)
    for _ in range(2):
        loss.observe(_seen(1e-5, 0.0, 2.0), 0.5)
    assert loss.price == pytest.approx(30 * 0.0006 / 2)


def test_a_term_that_waits_is_followed_when_its_time_comes():
    loss = _objective(follows={"stochastic": 1.0, "adversary": 2.5}, rate=0.5, start_factor=47.5)
    steps = [
        ([error, attacked if index > 2 else None], penalty) for index, (error, attacked, penalty) in enumerate(STEPS)
    ]
    tolerances = [0.95] * len(steps)
    expected = reference.constrained_price(steps, 1e-3, tolerances, [1.0, 2.5], 0.5, 0.5, 0.95)
    alone = reference.constrained_price([([e[0]], p) for e, p in steps], 1e-3, tolerances, [1.0], 0.5, 0.5, 0.95)
    found = []
    for index, step in enumerate(STEPS):
        seen = _seen(*step)
        loss.observe(seen if index > 2 else {name: seen[name] for name in ("stochastic", "price")}, 0.0)
        found.append(loss.price)
    assert found == pytest.approx([1e-3, *expected[:-1]], rel=1e-5)
    assert found[3] == pytest.approx(alone[2])
    assert found[4] != pytest.approx(alone[3])


def test_a_price_that_follows_nothing_yet_stays():
    loss = _objective()
    for _ in range(3):
        loss.observe({"price": torch.tensor(1.0)}, 0.0)
    assert loss.price == 1e-3


def test_it_goes_on_from_what_it_remembers():
    follows = {"stochastic": 1.0, "adversary": 2.5}
    loss = _objective(follows=follows)
    for step in STEPS[:4]:
        loss.observe(_seen(*step), 0.1)
    other = _objective(follows=follows)
    other.load_state(copy.deepcopy(loss.state()))
    for step in STEPS[4:]:
        for one in (loss, other):
            one.observe(_seen(*step), 0.1)
        assert other.price == loss.price != 1e-3


def test_a_penalty_of_nothing_leaves_a_finite_price():
    loss = _objective()
    for _ in range(5):
        loss.observe(_seen(0.0, 0.0, 0.0), 0.5)
    assert math.isfinite(loss.price)
    for _ in range(5):
        loss.observe(_seen(0.5, 0.0, 0.0), 0.5)
    assert math.isfinite(loss.price)


def test_the_knee_keeps_the_price_within_its_bounds():
    loss = _objective()
    for _ in range(2):
        loss.observe(_seen(0.04, 0.0, 0.0), 0.0)
    assert loss.price == 1e3


def test_the_term_itself_is_the_penalty(make_model, make_step, x):
    step = make_step(make_model(), x)
    assert ConstrainedImportance(p=0.7)(step).item() == ImportanceMinimality(p=0.7)(step).item()


def test_the_power_of_frequencies_moves_while_the_tolerance_falls(make_model, make_step, x):
    loss = ConstrainedImportance(frequency_exponent=1.0, frequency_exponent_final=-0.5, fall_start=0.2, fall_end=0.6)
    assert [loss.frequency_exponent_at(at) for at in (0, 0.2, 0.4, 0.6, 1)] == pytest.approx([1, 1, 0.25, -0.5, -0.5])
    assert ConstrainedImportance(frequency_exponent=0.5).frequency_exponent_at(1) == 0.5
    model = make_model()
    for at in (0, 0.5, 1):  # what it costs together does not change
        step = replace(make_step(model, x), progress=at)
        torch.testing.assert_close(loss(step), ImportanceMinimality()(step))


@pytest.mark.parametrize(
    ("followed", "said"),
    [
        ({}, "'price' follows 'stochastic', which is no Reconstruction with relative: true; those that are: none"),
        ({"stochastic": Reconstruction(), "layerwise": Reconstruction(relative=True)}, "those that are: layerwise"),
        ({"stochastic": ImportanceMinimality()}, "those that are: none"),
    ],
)
def test_what_it_follows_must_measure_a_share(followed, said):
    loss = ConstrainedImportance()
    with pytest.raises(UsageError, match=said):
        loss.check_beside({**followed, "price": loss})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tolerance": 0.0}, "tolerance must be a finite number above 0, got 0.0"),
        ({"start_factor": 0.5}, "start_factor must be at least 1, for a tolerance that stays the same; got 0.5"),
        ({"fall_start": 0.8}, "fall_start and fall_end must satisfy 0 <= start <= end <= 1, got 0.8, 0.7"),
        ({"rate": 0.0}, "rate must be a finite number above 0"),
        ({"knee": -1.0}, "knee must be a finite number at least 0"),
        ({"cliff_points": [(0.5, -1.0)]}, "cliff_points: the cliff of each must be a finite number at least 0"),
        ({"cliff_points": [(0.5, 9.0), (0.4, 9.0)]}, "cliff_points: fractions must rise from 0 to at most 1, got 0.4"),
        (
            {"tolerance": 0.4},
            r"tolerance \* start_factor must be below 1, .* got 0.4 \* 2.5: take a tolerance below 0.4",
        ),
        (
            {"tolerance": 0.1, "follows": {"stochastic": 1.0, "attack": 10.0}},
            r"tolerance \* follows.attack must be below 1, .* got 0.1 \* 10: take a tolerance below 0.1",
        ),
        (
            {"cliff_points": [(0.5, 9.0), (0.9, 0.4)]},
            "cliff_points: each cliff must be at least knee, 0.5, or 0 for none; got 0.4",
        ),
        ({"frequency_exponent": -0.5}, "frequency_exponent must be a finite number at least 0, got -0.5"),
        ({"frequency_exponent_final": -1.5}, "frequency_exponent_final must be at least -1, got -1.5; below, what is"),
        ({"frequency_exponent_final": float("inf")}, "frequency_exponent_final must be a finite number, got inf"),
        ({"follows": {}}, "follows must name a term at least"),
        ({"follows": {"stochastic": 0.0}}, "follows: stochastic must be a finite number above 0"),
        ({"coefficient": 0.0}, "coefficient must be a finite number above 0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        ConstrainedImportance(**arguments)
