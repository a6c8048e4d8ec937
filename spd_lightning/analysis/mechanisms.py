"""Mechanisms that were found, on disk: groups of components, for ablations and edits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spd_lightning.analysis.clustering import Clustering, agreement_with
from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import ComponentModel, Grouping

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """How components were put into groups.

    Attributes:
        threshold: importance above which a component counts as important.
        alpha: the price of a rank in bits.
        fewest: units on which a component had to be important.
        n_units: positions or examples that were looked at.
    """

    threshold: float
    alpha: float
    fewest: int
    n_units: int


def save_mechanisms(
    path: Path, found: Clustering, model: ComponentModel, settings: Settings, drawn: Sequence[Clustering] = ()
) -> None:
    """Write groups of components.

    Args:
        path: a name that is free.
        found: the groups.
        model: whose components they are.
        settings: how they were found.
        drawn: groups of the same components that were merged in drawn orders, to compare with.

    Raises:
        UsageError: if something of that name exists, or the disk refuses.
    """
    check_free(path)
    groups = [
        {"firings": firings, "coherence": round(coherence, 4), "components": members}
        for firings, coherence, members in zip(
            found.firings.tolist(), found.coherence.tolist(), found.grouping.groups, strict=True
        )
    ]
    content: dict[str, Any] = {"format": FORMAT, "weights": fingerprint(model), "settings": vars(settings)}
    content |= {"bits": {"before": found.before, "after": found.after}}
    indices = agreement_with(found, drawn)
    content["drawn"] = [{"agreement": a, "bits": one.after} for a, one in zip(indices, drawn, strict=True)]
    content["groups"] = groups
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")


def read_mechanisms(path: Path, model: ComponentModel) -> Grouping:
    """Read groups of components, to be given to a model, an edit or an ablation.

    Args:
        path: what :func:`save_mechanisms` wrote.
        model: whose components they are.

    Raises:
        UsageError: if there is no such file, it is damaged, or it is of other weights.
    """
    if not is_file(path):
        raise UsageError(f"{str(path)!r} does not exist; python -m spd_lightning.analysis cluster makes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("another format")
        weights, groups = content["weights"], [group["components"] for group in content["groups"]]
        counts = {name: parts.n_components for name, parts in model.components.items()}
        if weights == fingerprint(model):
            return Grouping.of(groups, counts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(f"{str(path)!r} is damaged, or no mechanisms that this version reads") from None
    raise UsageError(f"{str(path)!r} is of other weights than the model's; cluster anew")
