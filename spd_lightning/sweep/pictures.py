"""A sweep as pictures, drawn from its finished run directories."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.artefact.export import load_model
from spd_lightning.cli.arguments import one_line
from spd_lightning.errors import UsageError
from spd_lightning.figures import Outcome, importance_comparison, sweep_sensitivity
from spd_lightning.files.whole import written_whole
from spd_lightning.functional import pattern_order
from spd_lightning.runs.record import RunRecord
from spd_lightning.runs.verdict import known_sites, pattern_contradictions
from spd_lightning.sweep.configs import Config, lookup
from spd_lightning.sweep.grid import SEED, short_keys
from spd_lightning.sweep.runs import SweptRun
from spd_lightning.targets import KnownMechanisms

ALL_SITES = "all sites"
PROBE = 0.75
"""Magnitude of the one-hot probes, as in the paper's figures."""


def draw_pictures(runs: Sequence[SweptRun], default: Config, folder: Path) -> list[str]:
    """Draw what the finished runs of a sweep allow, as PNG files.

    ``sensitivity.png`` if one numeric key is swept, ``importance_tables.png`` if one key of any kind is (seeds aside).

    Args:
        runs: all runs; those that are not finished are left out.
        default: the config without any swept value, whose own value is marked.
        folder: where the files go.

    Returns:
        A line for every picture that could not be drawn.
    """
    finished = [run for run in runs if run.standing()[0] == "finished"]
    swept = [key for key in runs[0].point if key != SEED] or [SEED]
    if not finished or len(swept) > 1:
        return []
    key, notes = swept[0], []
    if key != SEED and _is_numeric(finished, key):
        _write(folder / "sensitivity.png", _sensitivity(finished, key, default))
    try:
        _write(folder / "importance_tables.png", _comparison(finished, key))
    except UsageError as error:
        notes.append(f"importance_tables.png is not drawn: {one_line(str(error))}")
    return notes


def _is_numeric(runs: Sequence[SweptRun], key: str) -> bool:
    return all(_number(lookup(run.config, key)) is not None for run in runs)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _write(path: Path, figure: Figure) -> None:
    with written_whole(path) as aside:
        figure.savefig(aside, format="png")


def _sensitivity(runs: Sequence[SweptRun], key: str, default: Config) -> Figure:
    outcomes: dict[float, list[Outcome]] = {}
    for run in runs:
        outcomes.setdefault(float(lookup(run.config, key)), []).append(outcome(run.record))
    return sweep_sensitivity(short_keys([key])[key], outcomes, _number(lookup(default, key)))


def outcome(record: RunRecord) -> Outcome:
    """How a finished run ended, added up over the sites whose mechanisms are known."""
    scores = record.scores
    sites = known_sites(scores)
    contradictions = [count for site in sites for _, count in pattern_contradictions(scores, site)[1][-1:]]
    mechanisms = {site: scores[f"recovery/{site}/mechanisms"] for site in sites}
    alive = [scores.get(f"alive/{site}", mechanisms[site]) for site in sites]
    return Outcome(not record.shortfalls, sum(contradictions), round(sum(alive)), round(sum(mechanisms.values())))


def _comparison(runs: Sequence[SweptRun], key: str) -> Figure:
    """The first seed's tables, one column per value."""
    first = runs[0].point.get(SEED)
    chosen = [run for run in runs if key == SEED or run.point.get(SEED) == first]
    if _is_numeric(chosen, key):
        chosen.sort(key=lambda run: float(lookup(run.config, key)))
    title = short_keys([key])[key]
    if key != SEED and first is not None:
        title += f", seed {first}"
    return importance_comparison(title, {run.point[key]: dict(_tables(run.planned.folder)) for run in chosen})


def _tables(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Importances on one-hot probes per site, columns in the order of the run's own heat maps."""
    model = load_model(folder)
    n_features = getattr(model.target, "n_features", None)
    if not isinstance(n_features, int):
        raise UsageError("the target has no n_features to probe")
    with torch.no_grad():
        importance = model.importance_of(PROBE * torch.eye(n_features))
    known = model.target.known_mechanisms() if isinstance(model.target, KnownMechanisms) else {}
    importance = {title: importance[site] for title, site in model.mechanisms.tables.items()}
    for site, values in importance.items():
        kind = known[site].kind if site in known else None
        yield site, values.lower[:, pattern_order(values.lower, kind)]
