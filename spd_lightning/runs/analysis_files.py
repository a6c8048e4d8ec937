"""What analyses leave in a run directory: the names of files, and rows of plain data read back with care."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

FOLDER = "analysis"
HARVEST, ROWS, MECHANISMS = "harvest.safetensors", "harvest.jsonl", "mechanisms.json"
LABELS, INTRUDERS, CARDS = "labels.json", "intruders.json", "cards.html"

_NUMBER = (int, float)
_TOKEN = {"token": int, "text": str, "precision": _NUMBER, "recall": _NUMBER, "pmi": _NUMBER}
_PLACE = {
    "example": int,
    "document": int,
    "position": int,
    "inner": _NUMBER,
    "importance": _NUMBER,
    "at": int,
    "tokens": [int],
    "texts": [str],
    "importances": [_NUMBER],
}
_END = {"index": int, "name": str, "weight": _NUMBER}
ROW_SHAPE: Mapping[str, Any] = {
    "call": str,
    "component": int,
    "firings": int,
    "density": _NUMBER,
    "mean_importance": _NUMBER,
    "positive": _NUMBER,
    "rms_inner": _NUMBER,
    "histogram": [int],
    "on": [_TOKEN],
    "before": [_TOKEN],
    "together": [{"site": str, "component": int, "share": _NUMBER, "jaccard": _NUMBER}],
    "reads": [_END],
    "writes": [_END],
    "places": [_PLACE],
}
"""A row of the harvest: a type, a list of things, or entries by name, of which any may be left out."""
_NEEDED = {"call", "component", "density", "places"}
MECHANISMS_SHAPE: Mapping[str, Any] = {
    "weights": str,
    "settings": {"threshold": _NUMBER, "n_units": int},
    "groups": [{"firings": int, "coherence": _NUMBER, "components": {}}],
}
LABELS_SHAPE: Mapping[str, Any] = {
    "weights": str,
    "labeller": str,
    "labels": [{"call": str, "component": int, "label": str}],
}
INTRUDERS_SHAPE: Mapping[str, Any] = {
    "weights": str,
    "judge": str,
    "chance": _NUMBER,
    "score": {"right": int, "count": int, "share": _NUMBER, "low": _NUMBER, "high": _NUMBER},
    "answers": [{"call": str, "component": int, "odd": int, "answer": int}],
}


def fits(value: Any, shape: Any) -> bool:
    """Whether plain data has the shape that is expected; what a shape does not name may be anything."""
    if isinstance(shape, Mapping):
        named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        return named and all(fits(value[name], inner) for name, inner in shape.items() if name in value)
    if isinstance(shape, list):
        return isinstance(value, list) and _all_fit(value, shape[0])
    return isinstance(value, shape) and not isinstance(value, bool) and not _is_endless(value)


def _all_fit(values: list[Any], shape: Any) -> bool:
    if isinstance(shape, Mapping | list):
        return all(fits(value, shape) for value in values)
    kinds = set(map(type, values))  # long lists hold few kinds
    if any(issubclass(kind, bool) or not issubclass(kind, shape) for kind in kinds):
        return False
    return kinds <= {str} or not any(map(_is_endless, values))


def _is_endless(value: Any) -> bool:
    """Whether a number is none that can be computed with: NaN, infinite, or whole and beyond what a float holds."""
    return isinstance(value, _NUMBER) and not -1e300 < value < 1e300


def read_rows(run: Path) -> list[dict[str, Any]]:
    """One entry for every component of every site call that is important anywhere, as ``harvest`` wrote them.

    Args:
        run: the run directory.

    Returns:
        Plain data of the shape :data:`ROW_SHAPE`; all entries have ``call``, ``component``, ``density`` and ``places``.

    Raises:
        UsageError: if there is no harvest, or it is damaged.
    """
    path = run / FOLDER / ROWS
    if not is_file(path):
        raise UsageError(f"{str(path)!r} does not exist; python -m spd_lightning.analysis harvest makes one")
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = row_of(line)
                rows.append(row)
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"{str(path)!r} is damaged (line {len(rows) + 1}); move it away and harvest anew") from None
    return rows


def row_of(line: str | bytes) -> dict[str, Any]:
    """One line of a harvest's rows, checked.

    Raises:
        ValueError: if it is no such row.
    """
    row = json.loads(line)
    if not _is_row(row):
        raise ValueError("another shape")
    return dict(row)


def _is_row(row: Any) -> bool:
    return fits(row, ROW_SHAPE) and row.keys() >= _NEEDED and all(map(_is_place, row["places"]))


def _is_place(place: Mapping[str, Any]) -> bool:
    """Whether a window has as many of everything, and its place inside."""
    sizes = {len(place[name]) for name in ("tokens", "texts", "importances") if name in place}
    window = place.keys() >= {"tokens", "importances", "at"} and len(sizes) == 1 and 0 <= place["at"] < max(sizes)
    return "document" in place and (not sizes or window)


def read_json(path: Path, shape: Mapping[str, Any], maker: str) -> dict[str, Any]:
    """Plain data from a file of ours.

    Args:
        path: the file.
        shape: what must be in it, all of the names at its top.
        maker: the command that writes it, for messages.

    Raises:
        UsageError: if there is no such file, or it holds something else.
    """
    if not is_file(path):
        raise UsageError(f"{str(path)!r} does not exist; python -m spd_lightning.analysis {maker} makes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if fits(content, shape) and content.keys() >= shape.keys():
            return dict(content)
    except (OSError, ValueError, RecursionError):
        pass
    raise UsageError(f"{str(path)!r} is damaged, or of another version; move it away and {maker} anew")
