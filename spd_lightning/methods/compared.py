"""How a run compares outputs: the distance that its objective trains."""

from collections.abc import Iterable, Mapping
from typing import Any

from spd_lightning.files.describe import rebuilt
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Loss, Reconstruction, untuned_losses


def trained_distance(losses: Iterable[Loss]) -> DistanceKind:
    """The distance of the first term that compares outputs; the squared error where none does."""
    found = [loss for loss in losses if isinstance(loss, Reconstruction) and loss.is_trained]
    return found[0].distance if found else "mse"


def saved_distance(model: Mapping[str, Any]) -> DistanceKind:
    """The distance that a saved config trains.

    Args:
        model: the part ``model`` of the config, plain data.

    Raises:
        UsageError: if a term's class is not imported, or its arguments cannot be used.
    """
    described = model.get("losses")
    if described is None:
        return trained_distance(untuned_losses().values())
    given = described.items() if isinstance(described, Mapping) else ()
    return trained_distance(rebuilt(loss, Loss, f"config.yaml: losses: {name}") for name, loss in given if loss)
