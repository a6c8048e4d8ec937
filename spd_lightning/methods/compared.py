"""How a run compares outputs: the distance that its objective trains."""

from collections.abc import Iterable, Mapping
from typing import Any

from spd_lightning.files.describe import class_of, rebuilt
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Loss, Reconstruction, untuned_losses


def trained_distance(losses: Iterable[Loss]) -> DistanceKind:
    """The distance of the first term that compares outputs; the squared error where none does."""
    found = [loss for loss in losses if isinstance(loss, Reconstruction) and loss.is_trained]
    return found[0].distance if found else "mse"


def saved_distance(model: Mapping[str, Any]) -> DistanceKind:
    """The distance that a saved config trains. Terms that compare no outputs may be from another version.

    Args:
        model: the part ``model`` of the config, plain data.

    Raises:
        UsageError: if a term's class is not imported, or arguments of one that compares outputs cannot be used.
    """
    described = model.get("losses")
    if described is None:
        return trained_distance(untuned_losses().values())
    given = described.items() if isinstance(described, Mapping) else ()
    terms = {f"config.yaml: losses: {name}": loss for name, loss in given if loss}
    compare = {what: loss for what, loss in terms.items() if issubclass(class_of(loss, Loss, what), Reconstruction)}
    return trained_distance(rebuilt(loss, Reconstruction, what) for what, loss in compare.items())
