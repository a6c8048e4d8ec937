"""The final report as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from spd_lightning.methods import Decomposition
from spd_lightning.model.wrapping import site_of
from spd_lightning.report.rows import SITE_HEADER, ablation_rows, site_row, sites, unrepresented, verdict


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _calls(scores: Mapping[str, float], module: Decomposition) -> list[tuple[str, int]]:
    """Every scored call of every site with its ``C``; a site that was not scored once."""
    scored: dict[str, list[str]] = {}
    for call in sites(scores):
        scored.setdefault(site_of(call), []).append(call)
    components = module.model.components.items()
    return [(call, parts.n_components) for name, parts in components for call in scored.get(name, [name])]


def report_table(scores: Mapping[str, float], module: Decomposition, settings: Mapping[str, Any]) -> str:
    """Sites, ablations, thresholds and verdict.

    Args:
        scores: scores by name, without the stage.
        module: the decomposition that was scored.
        settings: thresholds and budgets behind the scores.

    Returns:
        Several lines of text.
    """
    rows = [site_row(scores, call, count) for call, count in _calls(scores, module)]
    parts = ["", _aligned([SITE_HEADER, *rows])]
    measured = [[f"  {words}", distance] for _, words, distance in ablation_rows(scores)]
    if measured:
        kind = settings.get("AblationCheck.distance")
        title = f"output distance{f' ({kind})' if kind else ''} from the target under"
        parts += ["", _aligned([[title, ""], *measured])]
    if settings:
        parts += ["", "with " + ", ".join(f"{name} {value}" for name, value in settings.items())]
    lost = unrepresented(scores, module.model.site_names, getattr(module.target, "n_features", 0))
    return "\n".join([*parts, *([""] if lost else []), *lost, "", verdict(scores)])
