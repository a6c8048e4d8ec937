"""What advice calls the knobs of an objective, and which of them there are."""

from types import SimpleNamespace

import pytest

from callbacks.knobs import knobs_of
from spd_lightning.losses import ConstrainedImportance, ImportanceMinimality, Reconstruction
from spd_lightning.runs.findings import findings
from tests.methods.tiny import toy


def _knobs(**terms):
    return knobs_of(SimpleNamespace(max_steps=7), toy(losses={"stochastic": Reconstruction(relative=True), **terms}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"coefficient": 0.5}, "model.losses.attack.coefficient (now 0.5), its adversary_steps (now 1)"),
        (
            {"coefficient": 0.0, "coefficient_points": [(0.5, 2.0)]},
            "model.losses.attack.coefficient_points (at last 2), its adversary_steps (now 1)",
        ),
        ({"coefficient": 0.0}, ""),
        ({"coefficient": 0.0, "coefficient_points": [(0.5, 0.0)]}, ""),
    ],
)
def test_an_adversary_counts_if_it_is_trained_on_at_any_time(arguments, said):
    assert _knobs(attack=Reconstruction(sources="adversarial", **arguments)).adversary == said


def test_a_price_is_named_by_its_tolerance_and_a_path_by_its_points():
    assert _knobs(price=ConstrainedImportance()).importance == "model.losses.price.tolerance (now 0.02)"
    moving = ImportanceMinimality(0.1, coefficient_points=[(0.5, 0.3)])
    assert _knobs(price=moving).importance == "model.losses.price.coefficient_points (at last 0.3)"
    assert _knobs().steps == "trainer.max_steps (now 7)"


def test_where_the_price_goes_by_an_adversary_its_tolerance_is_what_to_lower():
    attack = Reconstruction(sources="adversarial", relative=True)
    beside = _knobs(attack=attack, price=ConstrainedImportance())
    following = _knobs(attack=attack, price=ConstrainedImportance(follows={"stochastic": 1.0, "attack": 2.5}))

    assert beside.allowed == ""
    assert following.allowed == following.importance == "model.losses.price.tolerance (now 0.02)"
    (attacked,) = findings({"ablation/zero": 1.0, "ablation/ladder_20": 0.9}, following)
    assert attacked.advice == "lower model.losses.price.tolerance (now 0.02), or raise trainer.max_steps (now 7)"
