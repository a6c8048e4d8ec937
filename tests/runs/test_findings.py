"""The verdict on any network, from scores alone."""

import pytest

from spd_lightning.runs.findings import Knobs, findings, ladder

GOOD = {
    "alive/fc1": 20.0,
    "alive/fc2": 10.0,
    "l0/fc1": 6.0,
    "l0/fc2": 4.0,
    "ablation/unmasked": 0.01,
    "ablation/ci_masked": 0.2,
    "ablation/rounded": 0.3,
    "ablation/stochastic": 0.1,
    "ablation/worst_case": 0.2,
    "ablation/zero": 2.0,
    "ablation/constant": 1.0,
    "ablation/ladder_20": 0.1,
    "ablation/ladder_320": 0.4,
    "ablation/ladder_80": 0.3,
}


def _answers(**changes):
    return {
        finding.question: finding for finding in findings(GOOD | {k.replace("__", "/"): v for k, v in changes.items()})
    }


def test_a_good_decomposition_has_three_good_answers_and_no_advice():
    found = findings(GOOD)

    assert [finding.answer for finding in found] == ["faithful", "sparse", "holds under attack"]
    assert all(finding.good and not finding.advice for finding in found)
    assert found[0].measured == (
        "all components on 0.50% (at most 1%), importances as masks 10.00% (at most 25%), "
        "rounded importances 15.00% (at most 25%)"
    )
    assert found[1].measured == "L0 10.0 of 30 alive (at most 50%)"
    assert (
        found[2].measured
        == "5.00% after 20, 15.00% after 80, 20.00% after 320 steps of a fresh adversary (at most 25%)"
    )


@pytest.mark.parametrize(
    ("score", "value", "question", "answer", "advice"),
    [
        ("ablation__unmasked", 0.021, "faithful", "not faithful", "warmup.steps"),
        ("ablation__ci_masked", 0.51, "faithful", "not faithful", "lower the coefficient of the importance term"),
        ("ablation__rounded", 0.51, "faithful", "not faithful", "p_final"),
        ("ablation__rounded", float("nan"), "faithful", "not faithful", "p_final"),
        ("l0__fc1", 11.1, "sparse", "not sparse", "raise the coefficient of the importance term"),
        ("ablation__ladder_320", 0.51, "attack", "breaks under attack", "sources: adversarial"),
        ("ablation__ladder_20", 0.51, "attack", "breaks under attack", "sources: adversarial"),
    ],
)
def test_one_broken_threshold_changes_one_answer(score, value, question, answer, advice):
    found = _answers(**{score: value})

    assert {name for name, finding in found.items() if not finding.good} == {question}
    assert found[question].answer == answer
    assert advice in found[question].advice


def test_where_nothing_is_alive_that_alone_is_advised_on():
    found = _answers(
        alive__fc1=0.0, alive__fc2=0.0, l0__fc1=0.0, l0__fc2=0.0, ablation__ci_masked=2.0, ablation__ladder_320=2.0
    )

    assert [finding.answer for finding in found.values()] == ["not faithful", "dead", "breaks under attack"]
    assert not any(finding.good for finding in found.values())
    assert [finding.advice for finding in found.values()] == [
        "",
        "lower the coefficient of the importance term, or raise model.optimization.lr",
        "",
    ]


def test_advice_speaks_of_what_there_is():
    knobs = Knobs(steps="steps (now 5)", warmup="", faithfulness="", importance="", adversary="its weight (now 2)")
    bad = GOOD | {"ablation/unmasked": 1.0, "l0/fc1": 20.0, "ablation/ladder_320": 1.0}

    assert [finding.advice.rpartition(": ")[2] for finding in findings(bad, knobs)] == [
        "raise the components in sites or steps (now 5)",
        "raise the components in sites or steps (now 5)",
        "raise its weight (now 2) or steps (now 5)",
    ]


def test_what_breaks_under_attack_is_not_advised_to_make_importance_dearer():
    knobs = Knobs(importance="tolerance (now 0.02)", allowed="tolerance (now 0.02)", steps="steps (now 5)")
    dense, broken = GOOD | {"l0/fc1": 20.0}, GOOD | {"l0/fc1": 20.0, "ablation/ladder_320": 1.0}

    assert "raise tolerance (now 0.02), the components" in findings(dense, knobs)[1].advice
    assert [finding.advice.rpartition(": ")[2] for finding in findings(broken, knobs)[1:]] == [
        "raise the components in sites or steps (now 5)",
        "lower tolerance (now 0.02), or raise steps (now 5)",
    ]


def test_without_a_unit_there_is_no_verdict():
    assert findings(GOOD | {"ablation/zero": 0.0}) == []
    assert findings({}) == []
    assert [finding.question for finding in findings({"ablation/zero": 1.0, "l0/a": 1.0, "alive/a": 4.0})] == ["sparse"]


def test_rungs_are_in_order_of_their_steps():
    assert ladder(GOOD) == [(20, 0.05), (80, 0.15), (320, 0.2)]
