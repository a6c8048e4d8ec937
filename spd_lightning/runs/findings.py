"""Is a decomposition any good: one rule for any network, from its scores alone (thresholds are ours).

Distances are weighed by what ablating everything costs, so that they mean the same for every network and output.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAX_UNMASKED = 0.01
"""Largest distance with all components on, as a share of what ablating everything costs."""
MAX_MASKED = 0.25
"""Largest distance with importances as masks, as they are, rounded, or used by an adversary; a share of the same."""
MAX_ACTIVE = 0.5
"""Largest share of the live components that an example may use on average."""
LADDER = "ablation/ladder_"
JUDGED = ("unmasked", "ci_masked", "rounded", "worst_case")
"""Regimes whose relative distances are the verdict's; the worst case stands for the ladder while training."""

Scores = Mapping[str, float]


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


def findings(scores: Scores) -> list[Finding]:
    """Judge a decomposition.

    Args:
        scores: scores by name, without the stage, as ``AblationCheck`` and ``ComponentActivity`` give them.

    Returns:
        Faithful, sparse, and whether it holds under attack; fewer where scores are missing. Nothing at all if ablating
        everything changes nothing: there is no unit then.
    """
    if not scores.get("ablation/zero", 0.0) > 0:
        return []
    found = (_faithful(scores), _sparse(scores), _under_attack(scores))
    return [finding for finding in found if finding is not None]


def relative(scores: Scores, name: str) -> float | None:
    """A distance as a share of what ablating everything costs."""
    value, unit = scores.get(f"ablation/{name}"), scores.get("ablation/zero", 0.0)
    return None if value is None or not unit > 0 else value / unit


def ladder(scores: Scores) -> list[tuple[int, float]]:
    """Steps of the adversary and the share that it reached, in order."""
    rungs = [name.removeprefix(LADDER) for name in scores if name.startswith(LADDER)]
    shares = {int(rung): relative(scores, f"ladder_{rung}") for rung in rungs if rung.isdigit()}
    return [(steps, share) for steps, share in sorted(shares.items()) if share is not None]


def _faithful(scores: Scores) -> Finding | None:
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
    return Finding("faithful", not broken, answer, ", ".join(said), _advice_on_faith(broken))


def _advice_on_faith(broken: list[str]) -> str:
    if not broken:
        return ""
    if "unmasked" in broken:
        return (
            "the components do not add up to the weights: more model.warmup.steps, a higher coefficient of the "
            "faithfulness term, or more components"
        )
    if "ci_masked" in broken:
        return (
            "what is called unimportant matters: a lower coefficient of the importance term, or more trainer.max_steps"
        )
    return "importances lie between 0 and 1: more trainer.max_steps, or a lower p_final of the importance term"


def _sparse(scores: Scores) -> Finding | None:
    l0, alive = (sum(_of_sites(scores, kind)) for kind in ("l0", "alive"))
    if not any(name.startswith("alive/") for name in scores):
        return None
    good = 0 < l0 <= MAX_ACTIVE * alive
    measured = f"L0 {l0:.1f} of {alive:.0f} alive (at most {MAX_ACTIVE:.0%})"
    if good:
        return Finding("sparse", True, "sparse", measured, "")
    if not alive:
        advice = "nothing is alive: a lower coefficient of the importance term, or a higher model.optimization.lr"
    else:
        advice = (
            "most of what is alive is used on every example: a higher coefficient of the importance term, more "
            "components, or more trainer.max_steps"
        )
    return Finding("sparse", False, "not sparse", measured, advice)


def _of_sites(scores: Scores, kind: str) -> Iterator[float]:
    return (score for name, score in scores.items() if name.startswith(f"{kind}/"))


def _under_attack(scores: Scores) -> Finding | None:
    rungs = ladder(scores)
    if not rungs:
        return None
    worst = max(share for _, share in rungs)
    good = worst <= MAX_MASKED
    climbed = ", ".join(f"{share:.2%} after {steps}" for steps, share in rungs)
    measured = f"{climbed} steps of a fresh adversary (at most {MAX_MASKED:.0%})"
    advice = (
        ""
        if good
        else "add a Reconstruction term with sources: adversarial, or raise its coefficient and adversary_steps; then "
        "more trainer.max_steps"
    )
    return Finding("attack", good, "holds under attack" if good else "breaks under attack", measured, advice)
