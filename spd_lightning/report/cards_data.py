"""What cards are made of: the files of a run's analyses, read with care and put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file
from spd_lightning.report.reading import inside
from spd_lightning.runs.analysis_files import (
    FOLDER,
    INTRUDERS,
    INTRUDERS_SHAPE,
    LABELS,
    LABELS_SHAPE,
    MECHANISMS,
    MECHANISMS_SHAPE,
    ROWS,
    read_json,
    read_rows,
)

Key = tuple[str, int]
"""A component: its site call and its number."""


@dataclass(frozen=True)
class Mechanism:
    """A group of components.

    Attributes:
        number: in the file.
        share: of positions on which any member is important.
        coherence: mean share of members that are important where any is.
        members: components by site.
    """

    number: int
    share: float
    coherence: float
    members: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class CardsData:
    """All that cards say.

    Attributes:
        rows: components that are important anywhere, see :func:`spd_lightning.runs.analysis_files.read_rows`.
        labels: by component.
        labeller: where they are from; empty without labels.
        mechanisms: the groups, those of several components.
        intruders: content of the intruder test; empty without one.
    """

    rows: list[dict[str, Any]]
    labels: Mapping[Key, str] = field(default_factory=dict)
    labeller: str = ""
    mechanisms: list[Mechanism] = field(default_factory=list)
    intruders: Mapping[str, Any] = field(default_factory=dict)


def cards_data(run: Path) -> CardsData:
    """Read what there is; only the harvest is needed.

    Args:
        run: the run directory.

    Raises:
        UsageError: without a harvest; for a damaged file, a link that leads out, or files of different weights.
    """
    folder = run / FOLDER
    for name in (ROWS, LABELS, MECHANISMS, INTRUDERS):
        if is_file(folder / name) and not inside(folder / name, run):
            raise UsageError(
                f"{str(folder / name)!r} is a link that leads out of the run directory; copy the file there"
            )
    labels = _found(folder / LABELS, LABELS_SHAPE, "label")
    groups = _found(folder / MECHANISMS, MECHANISMS_SHAPE, "cluster")
    intruders = _found(folder / INTRUDERS, INTRUDERS_SHAPE, "label --intruder")
    if len({content["weights"] for content in (labels, groups, intruders) if content}) > 1:
        raise UsageError(f"the files in {str(folder)!r} are of different weights; move the older ones away")
    named = {(entry["call"], entry["component"]): entry["label"] for entry in labels.get("labels", [])}
    return CardsData(read_rows(run), named, labels.get("labeller", ""), _mechanisms(groups, folder), intruders)


def _found(path: Path, shape: Mapping[str, Any], maker: str) -> dict[str, Any]:
    return read_json(path, shape, maker) if is_file(path) else {}


def _mechanisms(content: Mapping[str, Any], folder: Path) -> list[Mechanism]:
    """The groups of several components, in the order of the file, which is that of their firings."""
    found = []
    units = max(content.get("settings", {}).get("n_units", 1), 1)
    for number, group in enumerate(content.get("groups", [])):
        members = group["components"]
        if not all(isinstance(one, list) and all(isinstance(n, int) for n in one) for one in members.values()):
            raise UsageError(f"{str(folder / MECHANISMS)!r} is damaged; move it away and cluster anew")
        if sum(map(len, members.values())) > 1:
            found.append(Mechanism(number, group["firings"] / units, group["coherence"], members))
    return found
