import pytest

from spd_lightning.functional import geometric_anneal, linear_anneal, lr_factor
from tests import reference


@pytest.mark.parametrize("schedule", ["constant", "quarter_cosine", "half_cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
def test_equals_the_reference_at_every_step(schedule, warmup):
    for step in range(40):
        expected = reference.lr_factor(step, 40, schedule, warmup)
        assert lr_factor(step, 40, schedule, warmup) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        # a quarter of a cosine over 0..4: cos(0), cos(22.5 deg), cos(45 deg), cos(67.5 deg), cos(90 deg)
        ("quarter_cosine", [1.0, 0.9238795325, 0.7071067812, 0.3826834324, 0.0]),
        ("half_cosine", [1.0, 0.8535533906, 0.5, 0.1464466094, 0.0]),
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_by_hand(schedule, factors):
    assert [lr_factor(step, 5, schedule) for step in range(5)] == pytest.approx(factors, abs=1e-9)


def test_warmup_rises_linearly_from_zero():
    assert [lr_factor(step, 20, "constant", 0.2) for step in range(6)] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_final_fraction_is_where_cosines_end():
    for schedule in ("quarter_cosine", "half_cosine"):
        assert lr_factor(9, 10, schedule, final_fraction=0.1) == pytest.approx(0.1)
        assert lr_factor(0, 10, schedule, final_fraction=0.1) == pytest.approx(1.0)


def test_steps_beyond_the_end_stay_at_the_end():
    assert lr_factor(50, 10, "quarter_cosine") == pytest.approx(0, abs=1e-12)


def test_a_single_step_trains_at_full_rate():
    assert lr_factor(0, 1, "quarter_cosine") == 1.0


def test_unknown_schedule():
    with pytest.raises(ValueError, match="schedule must be 'constant', 'quarter_cosine' or 'half_cosine', got 'cos'"):
        lr_factor(0, 10, "cos")


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 2.0), (0.2, 2.0), (0.3, 1.75), (0.4, 1.5), (0.6, 1.0), (1.0, 1.0)]
)
def test_anneal_inside_a_window(progress, expected):
    assert linear_anneal(progress, 2.0, 1.0, (0.2, 0.6)) == pytest.approx(expected)


def test_empty_window_is_a_jump():
    assert [linear_anneal(at, 2.0, 1.0, (0.5, 0.5)) for at in (0.49, 0.5)] == [2.0, 1.0]


def test_a_geometric_path_halves_the_logarithm_half_way():
    values = [geometric_anneal(at, 1e-2, 1e-4, (0.2, 0.6)) for at in (0, 0.2, 0.4, 0.6, 1)]
    assert values == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-4])
