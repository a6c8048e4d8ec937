"""The final report as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from spd_lightning.methods import Decomposition
from spd_lightning.model.wrapping import site_of
from spd_lightning.report.rows import (
    DISTANCE_HEADER,
    SITE_HEADER,
    TASK_HEADER,
    ablation_rows,
    recovery,
    site_row,
    sites,
    task_rows,
    unrepresented,
)
from spd_lightning.runs.findings import Finding


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _said(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The same without columns that say nothing in any row."""
    said = [column for column in range(len(rows[0])) if any(row[column] != "-" for row in rows[1:])]
    return [[row[column] for column in said] for row in rows]


def _calls(scores: Mapping[str, float], module: Decomposition) -> list[tuple[str, int]]:
    """Every scored call of every site with its ``C``; a site that was not scored once."""
    scored: dict[str, list[str]] = {}
    for call in sites(scores):
        scored.setdefault(site_of(call), []).append(call)
    components = module.model.components.items()
    return [(call, parts.n_components) for name, parts in components for call in scored.get(name, [name])]


def report_table(
    scores: Mapping[str, float], module: Decomposition, settings: Mapping[str, Any], found: Sequence[Finding]
) -> str:
    """Sites, ablations, task, thresholds and verdict.

    Args:
        scores: scores by name, without the stage.
        module: the decomposition that was scored.
        settings: thresholds and budgets behind the scores.
        found: the verdict on any network.

    Returns:
        Several lines of text.
    """
    rows = [site_row(scores, call, count) for call, count in _calls(scores, module)]
    lost = unrepresented(scores, module.model.site_names, getattr(module.target, "n_features", 0))
    blocks = [
        _aligned(_said([list(SITE_HEADER), *rows])),
        _ablations(scores, settings.get("AblationCheck.distance")),
        _task(scores),
        _thresholds(settings),
        "\n".join(lost),
        "\n".join([*verdict_lines(found), recovery(scores)]),
    ]
    return "\n\n".join(["", *(block for block in blocks if block)]).removeprefix("\n")


def _ablations(scores: Mapping[str, float], kind: str | None) -> str:
    measured = [[f"  {words}", *cells] for _, words, cells in ablation_rows(scores)]
    title = f"output distance{f' ({kind})' if kind else ''} from the target under"
    return _aligned([[title, *DISTANCE_HEADER], *measured]) if measured else ""


def _task(scores: Mapping[str, float]) -> str:
    measured = [[f"  {words}", *cells] for words, *cells in task_rows(scores)]
    return _aligned([["on the labels of the data", *TASK_HEADER], *measured]) if measured else ""


def _thresholds(settings: Mapping[str, Any]) -> str:
    """A line per callback: what its scores depend on."""
    by_callback: dict[str, list[str]] = {}
    for name, value in settings.items():
        callback, _, setting = name.partition(".")
        by_callback.setdefault(callback, []).append(f"{setting} {value}")
    rows = [[f"  {callback}", ", ".join(values)] for callback, values in by_callback.items()]
    return _aligned([["measured with", ""], *rows]) if rows else ""


def verdict_lines(found: Sequence[Finding]) -> list[str]:
    """What was found, an answer a line, and below an answer that is not good what to try next."""
    lines = []
    for finding in found:
        lines.append(f"{finding.answer.capitalize()}: {finding.measured}.")
        lines += [f"  Next: {finding.advice}."] if finding.advice else []
    return lines
