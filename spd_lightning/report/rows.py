"""What a report says, cell by cell: the console's table and the pages are made of these."""

import math
from collections.abc import Mapping, Sequence

from spd_lightning.runs.findings import ladder
from spd_lightning.runs.verdict import known_sites, pattern_contradictions, shortfalls, site_shortfalls

Scores = Mapping[str, float]

SITE_HEADER = (
    "site",
    "C",
    "mechanisms",
    "alive",
    "L0",
    "MMCS (chance)",
    "ML2R",
    "r",
    "pattern",
    "contradictions at tolerance",
)
"""Columns of :func:`site_row`."""

ABLATIONS = {
    "unmasked": "all masks one, no delta",
    "ci_masked": "importances as masks",
    "rounded": "importances rounded to 0 or 1",
    "stochastic": "stochastic masks",
    "worst_case": "worst case over a fresh adversary",
    "zero": "everything ablated",
    "constant": "the same output for every input",
}
"""Regimes of ``ablation/NAME`` in words, in the order of a report; the last is no mask but a unit."""
DISTANCE_HEADER = ("distance", "of ablating everything", "of the output's variation")
"""Columns of :func:`ablation_rows` behind the words."""
TASK_HEADER = ("accuracy", "cross entropy", "loss recovered")
TASK = {"target": "the target itself", **ABLATIONS}

_UNREADABLE = "a count of contradictions or a tolerance is not a number"


def number(value: float | None, digits: int = 3, kind: str = "f") -> str:
    """A score as text.

    Args:
        value: the score; ``None`` becomes a dash.
        digits: after the point.
        kind: ``"f"`` fixed, ``"e"`` scientific.
    """
    return "-" if value is None else f"{value:.{digits}{kind}}"


def sites(scores: Scores) -> list[str]:
    """Every site that a score names, in the order of first mention."""
    parts = (name.split("/") for name in scores)
    named = (part[1:-1] if part[0] == "recovery" else part[1:] for part in parts if part[0] in _PER_SITE)
    return list(dict.fromkeys("/".join(name) for name in named if name))


_PER_SITE = ("l0", "alive", "recovery")


def site_row(scores: Scores, site: str, n_components: int | None) -> list[str]:
    """One line of the table of sites.

    Args:
        scores: scores by name, without the stage.
        site: the site.
        n_components: its ``C``, if known.

    Returns:
        A cell per column of :data:`SITE_HEADER`.
    """
    known = {name: scores.get(f"recovery/{site}/{name}") for name in ("mmcs", "chance_mmcs", "ml2r", "pearson")}
    kind, counts = pattern(scores, site)
    return [
        site,
        "-" if n_components is None else str(n_components),
        number(scores.get(f"recovery/{site}/mechanisms"), 0),
        number(scores.get(f"alive/{site}"), 0),
        number(scores.get(f"l0/{site}"), 2),
        number(known["mmcs"]) + ("" if known["mmcs"] is None else f" ({number(known['chance_mmcs'])})"),
        number(known["ml2r"]),
        number(known["pearson"]),
        kind,
        ", ".join(f"{count} at {tolerance}" for tolerance, count in counts) or "-",
    ]


def pattern(scores: Scores, site: str) -> tuple[str, list[tuple[str, int]]]:
    """The pattern of a site and its contradictions, as :func:`pattern_contradictions`; ``unreadable`` for no counts."""
    try:
        return pattern_contradictions(scores, site)
    except (ValueError, OverflowError):  # counts that are no numbers, as JSON may hold them
        return "unreadable", []


def ablation_rows(scores: Scores) -> list[tuple[str, str, tuple[str, str, str]]]:
    """Name, words and distance of every regime of ablation that was scored, and the rungs of the adversary's ladder.

    The distance stands beside the same in units of what ablating everything costs, and of the distance of the best
    output that does not look at the input.
    """
    scored = [(name, words) for name, words in ABLATIONS.items() if f"ablation/{name}" in scores]
    rungs = [(f"ladder_{steps}", f"a fresh adversary after {steps} steps, one batch") for steps, _ in ladder(scores)]
    before = [name for name, _ in scored].index("zero") if "ablation/zero" in scores else len(scored)
    return [(name, words, _distances(scores, name)) for name, words in (*scored[:before], *rungs, *scored[before:])]


def _distances(scores: Scores, name: str) -> tuple[str, str, str]:
    value = scores[f"ablation/{name}"]
    zero, constant = (_share(value, scores.get(f"ablation/{unit}")) for unit in ("zero", "constant"))
    return number(value, 2, "e"), zero, constant


def _share(value: float, unit: float | None) -> str:
    return f"{value / unit:.2%}" if unit is not None and unit > 0 else "-"


def task_rows(scores: Scores) -> list[tuple[str, str, str, str]]:
    """The target and every regime that was compared with labels, in words.

    Returns:
        Its name, accuracy, cross entropy, and the share of what ablating everything adds to that which it keeps away.
    """
    scored = [(name, words) for name, words in TASK.items() if f"task/accuracy/{name}" in scores]
    losses = {name: scores.get(f"task/cross_entropy/{name}", math.nan) for name, _ in scored}
    target, zero = losses.get("target", math.nan), losses.get("zero", math.nan)
    kept = {name: _share(zero - loss, zero - target) if math.isfinite(loss) else "-" for name, loss in losses.items()}
    return [
        (words, f"{scores[f'task/accuracy/{name}']:.1%}", number(losses[name]), kept[name]) for name, words in scored
    ]


def missing(scores: Scores, site: str | None = None) -> list[str]:
    """What keeps a run, or one of its sites, from counting as recovered; scores that make no sense are such a thing.

    Args:
        scores: scores by name, without the stage.
        site: a site with known mechanisms; the whole run without one.

    Returns:
        Phrases of :mod:`spd_lightning.runs.verdict`; empty if all was found.
    """
    try:
        return shortfalls(scores) if site is None else site_shortfalls(scores, site)
    except (ValueError, OverflowError):
        return [_UNREADABLE]


def recovery(scores: Scores) -> str:
    """One sentence: whether every known mechanism was found, by the rule of :mod:`spd_lightning.runs.verdict`.

    Args:
        scores: scores by name, without the stage.

    Returns:
        The sentence; where something is missing it says what.
    """
    known = known_sites(scores)
    if not known:
        return "The target states no mechanisms, so recovery was not scored."
    reasons = missing(scores)
    if not reasons:
        return f"Recovered: the known mechanisms of all {len(known)} sites were found."
    return f"Not recovered: {'; '.join(reasons)}."


def unrepresented(scores: Scores, names: Sequence[str], total: int) -> list[str]:
    """A sentence if the target lost features; recovery is scored on the others alone.

    Args:
        scores: scores by name, without the stage.
        names: the sites.
        total: features of the target, 0 if it states none.

    Returns:
        The sentence, or nothing.
    """
    counts = [
        scores[f"recovery/{site}/mechanisms"]
        for site in names
        if f"recovery/{site}/mechanisms" in scores and pattern(scores, site)[0] == "identity"
    ]
    if not counts or not total or min(counts) == total:
        return []
    fewest = number(min(counts), 0)
    return [f"The target itself represents only {fewest} of its {total} features; the others are not scored."]
