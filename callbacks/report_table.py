"""The final report as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from spd_lightning.methods import Decomposition
from spd_lightning.verdict import known_sites, pattern_errors, shortfalls

_ABLATIONS = {
    "unmasked": "all masks one, no delta",
    "ci_masked": "importances as masks",
    "rounded": "importances rounded to 0 or 1",
    "stochastic": "stochastic masks",
    "worst_case": "worst case over a fresh adversary",
    "zero": "everything ablated",
}


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _site_row(scores: Mapping[str, float], site: str, n_components: int) -> list[str]:
    recovery = {
        name: scores.get(f"recovery/{site}/{name}") for name in ("mechanisms", "mmcs", "chance_mmcs", "ml2r", "pearson")
    }
    kind, errors = pattern_errors(scores, site)
    mmcs = _number(recovery["mmcs"]) + ("" if recovery["mmcs"] is None else f" ({_number(recovery['chance_mmcs'])})")
    return [
        site,
        str(n_components),
        "-" if recovery["mechanisms"] is None else str(int(recovery["mechanisms"])),
        _number(scores.get(f"alive/{site}"), 0),
        _number(scores.get(f"l0/{site}"), 2),
        mmcs,
        _number(recovery["ml2r"]),
        _number(recovery["pearson"]),
        kind,
        ", ".join(f"{count} at {tolerance}" for tolerance, count in errors) or "-",
    ]


def verdict(scores: Mapping[str, float]) -> str:
    """One sentence: whether every known mechanism was found, by the rule of :mod:`spd_lightning.verdict`.

    Args:
        scores: scores by name, without the stage.

    Returns:
        The sentence; where something is missing it says what.
    """
    known = known_sites(scores)
    if not known:
        return "The target states no mechanisms, so recovery was not scored."
    missing = shortfalls(scores)
    if not missing:
        return f"Recovered: the known mechanisms of all {len(known)} sites were found."
    return f"Not recovered: {'; '.join(missing)}."


def _unrepresented(scores: Mapping[str, float], module: Decomposition) -> list[str]:
    """A sentence if the target lost features; recovery is scored on the others alone."""
    total = getattr(module.target, "n_features", 0)
    counts = [
        int(scores[f"recovery/{site}/mechanisms"])
        for site in module.model.site_names
        if any(name.startswith(f"recovery/{site}/identity_error") for name in scores)
    ]
    if not counts or min(counts) == total:
        return []
    return ["", f"The target itself represents only {min(counts)} of its {total} features; the others are not scored."]


def report_table(scores: Mapping[str, float], module: Decomposition, settings: Mapping[str, Any]) -> str:
    """Sites, ablations, thresholds and verdict.

    Args:
        scores: scores by name, without the stage.
        module: the decomposition that was scored.
        settings: thresholds and budgets behind the scores.

    Returns:
        Several lines of text.
    """
    header = [
        "site",
        "C",
        "mechanisms",
        "alive",
        "L0",
        "MMCS (chance)",
        "ML2R",
        "r",
        "pattern",
        "ci errors at tolerance",
    ]
    sites = [(name, parts.n_components) for name, parts in module.model.components.items()]
    parts = ["", _aligned([header, *(_site_row(scores, name, count) for name, count in sites)])]
    measured = [(text, scores[f"ablation/{name}"]) for name, text in _ABLATIONS.items() if f"ablation/{name}" in scores]
    if measured:
        rows = [
            ["output distance from the target under", ""],
            *([f"  {text}", f"{value:.2e}"] for text, value in measured),
        ]
        parts += ["", _aligned(rows)]
    if settings:
        parts += ["", "with " + ", ".join(f"{name} {value}" for name, value in settings.items())]
    parts += _unrepresented(scores, module)
    return "\n".join([*parts, "", verdict(scores)])
