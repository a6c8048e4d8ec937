"""Thresholds, budgets and states in words, shared by the pages."""

import math
from collections.abc import Mapping
from typing import Any

from spd_lightning.report.reading import mapping, quantity
from spd_lightning.runs.record import RunRecord
from spd_lightning.runs.verdict import MIN_MMCS, MIN_PEARSON, ML2R_RANGE

NEEDED = [
    "needed",
    "",
    "",
    "= mechanisms",
    "",
    f"≥ {MIN_MMCS}",
    f"{ML2R_RANGE[0]} to {ML2R_RANGE[1]}",
    f"≥ {MIN_PEARSON}",
    "",
    "0 at loosest",
]
"""The threshold under each column of the table of sites."""

COLUMN_WORDS = (
    ("C", "Components that the site may use."),
    ("mechanisms", "How many the target is known to have there."),
    ("alive", "Components whose importance is above the threshold on any example."),
    ("L0", "Components above the threshold per example, on average."),
    (
        "MMCS (chance)",
        "How well the best component for each feature points along the target's own vector; 1 is exactly. In brackets "
        "what random components reach: in two dimensions nearly 1.",
    ),
    ("ML2R", "Length of that component relative to the target's vector; 1 is right."),
    ("r", "Pearson correlation of what each feature contributes to each neuron, in component and target."),
    ("pattern", "What importances on single features should look like: one component each (identity), or all (dense)."),
    ("contradictions", "Importances that contradict the pattern by more than a tolerance."),
)
"""Columns of the table of sites in plain words."""

_STATES = {
    "absent": "Nothing there: the run was not started.",
    "started": "Not finished: there is a config but no final scores.",
    "damaged": "Cannot be read",
}


def plain(value: Any) -> str:
    """Whatever a file holds as text; a dash for nothing."""
    return "-" if value is None else str(value)


def state_text(record: RunRecord) -> str:
    """Why there are no scores."""
    said = _STATES.get(record.state, record.state)
    return f"{said}: {record.problem}." if record.problem else said


def duration(seconds: Any) -> str:
    """Seconds as people say them; text that is not a number stays as it is."""
    value = quantity(seconds)
    if value is None or not math.isfinite(value):
        return plain(seconds)
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def megabytes(value: Any) -> str:
    """A number of megabytes, rounded; text that is not a number stays as it is."""
    size = quantity(value)
    return plain(value) if size is None else f"{size:.0f} MB"


def measured_with(record: RunRecord) -> str:
    """Thresholds behind the table of sites, as far as the run states them."""
    settings = mapping(record.metrics, "settings")
    known = {
        "ComponentActivity.threshold": "alive and L0 count importances above {}",
        "MechanismRecovery.probe": "the pattern is read with one feature at a time at {}",
        "MechanismRecovery.tolerances": "tolerances {}",
    }
    said = [words.format(plain(settings[name]).strip("[]")) for name, words in known.items() if name in settings]
    return f"Measured with: {'; '.join(said)}." if said else "The run does not state its thresholds."


def distances_with(record: RunRecord) -> str:
    """What distances under ablation are, and the budget of their worst case."""
    settings = mapping(record.metrics, "settings")
    words = f"Distance ({plain(settings.get('AblationCheck.distance'))}) from the target's output on held-out data"
    return f"{words}, by kind of mask; {ablation_title('worst_case', 'worst case over a fresh adversary', settings)}."


def ablation_title(name: str, words: str, settings: Mapping[str, Any]) -> str:
    """A regime of ablation with what it depends on: the adversary's budget, the threshold of rounding."""
    steps, size = (settings.get(f"AblationCheck.adversary_{what}") for what in ("steps", "step_size"))
    if name == "worst_case" and steps is not None:
        return f"{words} ({plain(steps)} steps of {plain(size)})"
    threshold = settings.get("AblationCheck.rounding_threshold")
    return f"{words} (at {plain(threshold)})" if name == "rounded" and threshold is not None else words
