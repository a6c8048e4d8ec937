"""Is a decomposition any good: one rule for any network, from its scores alone (thresholds are ours).

Distances are weighed by what ablating everything costs, so that they mean the same for every network and output.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

MAX_UNMASKED = 0.01
"""Largest distance with all components on, as a share of what ablating everything costs."""
MAX_MASKED = 0.25
"""Largest distance with importances as masks, as they are, rounded, or used by an adversary; a share of the same."""
MAX_ACTIVE = 0.5
"""Largest share of the live components that an example may use on average."""
DEAD = "dead"
"""The answer to whether it is sparse where no component is ever used."""
LADDER = "ablation/ladder_"
JUDGED = ("unmasked", "ci_masked", "rounded", "worst_case")
"""Regimes whose relative distances are the verdict's; the worst case stands for the ladder while training."""

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Knobs:
    """What there is to turn, in the words of whoever turns it, with its present value where that is known.

    What is empty cannot be turned.

    Attributes:
        steps: length of training.
        warmup: length of the warm-up.
        rate: learning rate.
        faithfulness: weight of the term that keeps the sum of the components.
        importance: weight of the term that keeps components few.
        exponent: what drives importances to 0 or 1.
        adversary: weight of the adversary's term and the number of its steps.
        new_adversary: how to add one where there is none.
        allowed: what an adversary may cost, where the price of importance goes by it.
        components: how many there are.
    """

    steps: str = "trainer.max_steps"
    warmup: str = "model.warmup.steps"
    rate: str = "model.optimization.lr"
    faithfulness: str = "the coefficient of the faithfulness term"
    importance: str = "the coefficient of the importance term"
    exponent: str = "p_final of the importance term"
    adversary: str = ""
    new_adversary: str = "add a Reconstruction term with sources: adversarial"
    allowed: str = ""
    components: str = "the components in sites"


class Finding(NamedTuple):
    """One of three answers.

    Attributes:
        question: ``"faithful"``, ``"sparse"`` or ``"attack"``.
        good: whether the thresholds are kept.
        answer: in words.
        measured: every number beside its threshold.
        advice: what to try next; empty where it is good.
    """

    question: str
    good: bool
    answer: str
    measured: str
    advice: str


def findings(scores: Scores, knobs: Knobs = Knobs()) -> list[Finding]:
    """Judge a decomposition.

    Args:
        scores: scores by name, without the stage, as ``AblationCheck`` and ``ComponentActivity`` give them.
        knobs: what the advice speaks of.

    Returns:
        Faithful, sparse, and whether it holds under attack; fewer where scores are missing. Nothing at all if ablating
        everything changes nothing: there is no unit then. Where nothing is alive, that alone is advised on.
    """
    if not scores.get("ablation/zero", 0.0) > 0:
        return []
    found = (_faithful(scores, knobs), _sparse(scores, knobs), _under_attack(scores, knobs))
    said = [finding for finding in found if finding is not None]
    if any(finding.answer == DEAD for finding in said):
        return [finding if finding.answer == DEAD else finding._replace(advice="") for finding in said]
    return said


def relative(scores: Scores, name: str) -> float | None:
    """A distance as a share of what ablating everything costs."""
    value, unit = scores.get(f"ablation/{name}"), scores.get("ablation/zero", 0.0)
    return None if value is None or not unit > 0 else value / unit


def ladder(scores: Scores) -> list[tuple[int, float]]:
    """Steps of the adversary and the share that it reached, in order."""
    rungs = [name.removeprefix(LADDER) for name in scores if name.startswith(LADDER)]
    shares = {int(rung): relative(scores, f"ladder_{rung}") for rung in rungs if rung.isdigit()}
    return [(steps, share) for steps, share in sorted(shares.items()) if share is not None]


def _faithful(scores: Scores, knobs: Knobs) -> Finding | None:
    limits = {
        "unmasked": ("all components on", MAX_UNMASKED),
        "ci_masked": ("importances as masks", MAX_MASKED),
        "rounded": ("rounded importances", MAX_MASKED),
    }
    shares = {name: relative(scores, name) for name in limits}
    if any(share is None for share in shares.values()):
        return None
    broken = [name for name, (_, limit) in limits.items() if not (shares[name] or 0.0) <= limit]
    said = [f"{words} {shares[name]:.2%} (at most {limit:.0%})" for name, (words, limit) in limits.items()]
    answer = "not faithful" if broken else "faithful"
    return Finding("faithful", not broken, answer, ", ".join(said), _advice_on_faith(broken, knobs))


def _advice_on_faith(broken: list[str], knobs: Knobs) -> str:
    if not broken:
        return ""
    if "unmasked" in broken:
        raised = _any_of(knobs.warmup, knobs.faithfulness, knobs.components, knobs.steps)
        return f"the components do not add up to the weights: raise {raised}"
    if "ci_masked" in broken:
        return f"what is called unimportant matters: {_lower(knobs.importance)}raise {knobs.steps}"
    return f"importances lie between 0 and 1: {_lower(knobs.exponent)}raise {knobs.steps}"


def _any_of(*knobs: str) -> str:
    *others, last = (knob for knob in knobs if knob)
    return f"{', '.join(others)} or {last}" if others else last


def _lower(knob: str) -> str:
    return f"lower {knob}, or " if knob else ""


def _sparse(scores: Scores, knobs: Knobs) -> Finding | None:
    l0, alive = (sum(_of_sites(scores, kind)) for kind in ("l0", "alive"))
    if not any(name.startswith("alive/") for name in scores):
        return None
    if not alive:
        advice = f"{_lower(knobs.importance)}raise {knobs.rate}"
        return Finding("sparse", False, DEAD, "no component matters on any example", advice)
    measured = f"L0 {l0:.1f} of {alive:.0f} alive (at most {MAX_ACTIVE:.0%})"
    if 0 < l0 <= MAX_ACTIVE * alive:
        return Finding("sparse", True, "sparse", measured, "")
    attacked = _under_attack(scores, knobs)
    dearer = "" if attacked and not attacked.good else knobs.importance  # what breaks under attack wants it cheaper
    raised = _any_of(dearer, knobs.components, knobs.steps)
    advice = f"most of what is alive is used on every example: raise {raised}"
    return Finding("sparse", False, "not sparse", measured, advice)


def _of_sites(scores: Scores, kind: str) -> Iterator[float]:
    return (score for name, score in scores.items() if name.startswith(f"{kind}/"))


def _under_attack(scores: Scores, knobs: Knobs) -> Finding | None:
    rungs = ladder(scores)
    if not rungs:
        return None
    worst = max(share for _, share in rungs)
    good = worst <= MAX_MASKED
    climbed = ", ".join(f"{share:.2%} after {steps}" for steps, share in rungs)
    measured = f"{climbed} steps of a fresh adversary (at most {MAX_MASKED:.0%})"
    if good:
        return Finding("attack", True, "holds under attack", measured, "")
    return Finding("attack", False, "breaks under attack", measured, _advice_on_attacks(knobs))


def _advice_on_attacks(knobs: Knobs) -> str:
    if knobs.allowed:
        return f"{_lower(knobs.allowed)}raise {knobs.steps}"
    return f"raise {_any_of(knobs.adversary, knobs.steps)}" if knobs.adversary else knobs.new_adversary
