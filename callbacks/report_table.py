"""The final report as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from spd_lightning.methods import Decomposition
from spd_lightning.report.rows import SITE_HEADER, ablation_rows, site_row, unrepresented, verdict


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def report_table(scores: Mapping[str, float], module: Decomposition, settings: Mapping[str, Any]) -> str:
    """Sites, ablations, thresholds and verdict.

    Args:
        scores: scores by name, without the stage.
        module: the decomposition that was scored.
        settings: thresholds and budgets behind the scores.

    Returns:
        Several lines of text.
    """
    sites = [(name, parts.n_components) for name, parts in module.model.components.items()]
    parts = ["", _aligned([SITE_HEADER, *(site_row(scores, name, count) for name, count in sites)])]
    measured = [[f"  {words}", distance] for _, words, distance in ablation_rows(scores)]
    if measured:
        kind = settings.get("AblationCheck.distance")
        title = f"output distance{f' ({kind})' if kind else ''} from the target under"
        parts += ["", _aligned([[title, ""], *measured])]
    if settings:
        parts += ["", "with " + ", ".join(f"{name} {value}" for name, value in settings.items())]
    lost = unrepresented(scores, module.model.site_names, getattr(module.target, "n_features", 0))
    return "\n".join([*parts, *([""] if lost else []), *lost, "", verdict(scores)])
