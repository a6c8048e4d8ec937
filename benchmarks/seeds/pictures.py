"""The recovered share over what an entry varies."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.seeds.runs import EntryRuns
from benchmarks.seeds.table import Group
from spd_lightning.figures import recovery_shares
from spd_lightning.files.whole import written_whole
from spd_lightning.sweep.configs import lookup
from spd_lightning.sweep.grid import short_keys

DPI = 100


def draw(entry: EntryRuns, groups: Sequence[Group], picture: Path) -> bool:
    """Draw an entry that varies one value, as a PNG file with its numbers in a JSON file beside it.

    If there is nothing to draw, those of an earlier call are removed.

    One value is varied if each value of its first key stands for a point of its own; further keys then go along with
    it. A mapping, such as the components of all sites, stands for its first number.

    Args:
        entry: the entry and its runs.
        groups: lines of the table; those of other entries are passed over.
        picture: path of the PNG file.

    Returns:
        Whether there was something to draw.
    """
    keys = list(entry.runs[0].point)
    varied = _varied(keys, [group for group in groups if group.entry == entry.entry.name])
    counts = {value: (group.recovered, group.count) for value, group in varied.items() if group.count}
    if len(counts) < 2:  # of a single dot there is nothing to see
        for old in (picture, picture.with_suffix(".json")):
            old.unlink(missing_ok=True)
        return False
    name = short_keys(keys)[keys[0]]
    figure = recovery_shares(name, counts, number(lookup(entry.default, keys[0])))
    with written_whole(picture) as aside:
        FigureCanvasAgg(figure).figure.savefig(aside, dpi=DPI, format="png")
    with written_whole(picture.with_suffix(".json")) as aside:
        aside.write_text(json.dumps(_data(entry, keys[0], varied), indent=2) + "\n")
    return True


def _varied(keys: Sequence[str], groups: Sequence[Group]) -> dict[float, Group]:
    """Groups by place on the axis; none unless each has a place of its own."""
    if not keys:
        return {}
    places = [number(yaml.safe_load(group.point[keys[0]])) for group in groups]
    varied = {place: group for place, group in zip(places, groups, strict=True) if place is not None}
    return varied if len(varied) == len(groups) else {}


def number(value: Any) -> float | None:
    """A value as a place on an axis; a mapping's first one."""
    if isinstance(value, Mapping):
        return number(next(iter(value.values()), None))
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _data(entry: EntryRuns, key: str, varied: Mapping[float, Group]) -> dict[str, object]:
    rows = []
    for value, group in varied.items():
        low, high = group.interval or (None, None)
        rows.append({"value": value, "recovered": group.recovered, "runs": group.count, "low": low, "high": high})
    return {"entry": entry.entry.name, "key": key, "rows": rows}
