import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.functional import along_points
from spd_lightning.losses import FrequencyMinimality, ImportanceMinimality, Noise, RankPenalty, Reconstruction
from tests.methods.tiny import toy


def test_between_points_the_path_is_geometric():
    points = [(0.5, 1.0), (0.75, 4.0)]
    found = [along_points(progress, 100.0, points) for progress in (0.0, 0.25, 0.5, 0.625, 0.75, 1.0)]
    assert found == pytest.approx([100.0, 10.0, 1.0, 2.0, 4.0, 4.0])


def test_next_to_a_zero_it_stays_then_jumps():
    assert [along_points(p, 2.0, [(0.5, 0.0), (0.8, 3.0)]) for p in (0.0, 0.49, 0.5, 0.79, 0.8)] == [2, 2, 0, 0, 3]


def test_two_points_at_one_place_are_a_jump():
    assert [along_points(p, 8.0, [(0.5, 2.0), (0.5, 6.0)]) for p in (0.25, 0.5, 0.9)] == pytest.approx([4.0, 6.0, 6.0])


@pytest.mark.parametrize("loss", [ImportanceMinimality, FrequencyMinimality])
def test_one_point_is_what_a_window_from_the_beginning_says(loss):
    pointed = loss(coefficient=2.5e-5, coefficient_points=[(0.5, 1e-6)])
    windowed = loss(coefficient=2.5e-5, coefficient_final=1e-6, coefficient_end=0.5)
    for progress in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0):
        assert pointed.coefficient_at(progress) == pytest.approx(windowed.coefficient_at(progress), rel=1e-12)


@pytest.mark.parametrize("loss", [Reconstruction, ImportanceMinimality, RankPenalty])
def test_while_points_hold_it_at_zero_a_term_waits(loss):
    late = loss(coefficient=0.0, coefficient_points=[(0.5, 0.3), (0.9, 0.0)])
    assert [late.waits(at) for at in (0.0, 0.49, 0.5, 0.89, 0.9, 1.0)] == [True, True, False, False, True, True]
    assert [late.coefficient_at(at) for at in (0.0, 0.5, 0.8, 1.0)] == [0.0, 0.3, 0.3, 0.0]


def test_a_term_that_is_only_reported_does_not_wait():
    assert not Reconstruction(coefficient=0.0).waits(0.0)


def test_a_term_is_computed_from_when_it_counts():
    late = Reconstruction(coefficient=0.0, coefficient_points=[(0.5, 2.0)], sources="adversarial")
    module = toy(losses={"stochastic": Reconstruction(), "reported": Reconstruction(0.0), "late": late})
    noise = Noise((0,), torch.device("cpu"))
    total, terms = module.objective(torch.rand(8, 5), noise, 0.49)
    assert list(terms) == ["stochastic", "reported"]
    assert total.item() == terms["stochastic"].item()
    total, terms = module.objective(torch.rand(8, 5), noise, 0.5)
    assert list(terms) == ["stochastic", "reported", "late"]
    assert total.item() == pytest.approx((terms["stochastic"] + 2 * terms["late"]).item())


def test_some_term_must_count_at_every_time():
    late = Reconstruction(coefficient=0.0, coefficient_points=[(0.5, 2.0)])
    early = Reconstruction(coefficient_points=[(0.4, 0.0)])
    with pytest.raises(UsageError, match=r"a coefficient above 0; from 0 of training on none has"):
        toy(losses={"late": late, "reported": Reconstruction(0.0)})
    with pytest.raises(UsageError, match=r"a coefficient above 0; from 0\.4 of training on none has"):
        toy(losses={"late": late, "early": early})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coefficient_points": [(0.5, 1.0)], "coefficient_final": 1.0}, "stand in place of coefficient_final"),
        (
            {"coefficient_points": [(0.5, 1.0), (0.4, 1.0)]},
            r"fractions must rise from 0 to at most 1, got 0\.4 after 0\.5",
        ),
        ({"coefficient_points": [(1.5, 1.0)]}, r"got 1\.5 after 0\.0"),
        ({"coefficient_points": [(0.5, -1.0)]}, "the coefficient of each must be a finite number at least 0"),
        ({"coefficient_points": [(0.5,)]}, "each must be a fraction and a coefficient"),
        ({"coefficient_points": [(float("nan"), 1.0)]}, "fractions must rise"),
        ({"coefficient_points": "0.5"}, "coefficient_points must be a list"),
    ],
)
def test_refuses_by_name(options, said):
    with pytest.raises(UsageError, match=said):
        ImportanceMinimality(**options)
