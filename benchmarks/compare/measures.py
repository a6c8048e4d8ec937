"""What both methods' components are like, measured on one-hot probes by the same rule."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spd_lightning.artefact.export import load_model
from spd_lightning.callbacks.scrubbing import scrubbing_errors
from spd_lightning.functional import ALIVE_THRESHOLD, alive_components, with_rank
from spd_lightning.targets import KnownMechanisms

PROBE = 0.75
MIN_COSINE = 0.99
HALF = 0.5
"""Importance from which on a component of a writing layer serves a feature."""
SPLIT = 2.0
"""Features for each live component up to which a layer counts as split feature by feature."""


def features_of_their_own(table: Tensor, threshold: float = ALIVE_THRESHOLD) -> Tensor:
    """Rows whose most important component is no other row's.

    Args:
        table: importances on one-hot probes, ``[n_features, C]``.
        threshold: importance that it must have.

    Returns:
        Booleans ``[n_features]``.
    """
    largest, chosen = table.max(dim=1)
    served = largest > threshold
    return served & (chosen[served].bincount(minlength=table.shape[1])[chosen] == 1)


@dataclass(frozen=True)
class Found:
    """The components of a finished run.

    Attributes:
        folder: its directory.
    """

    folder: Path

    @cached_property
    def _model(self) -> Any:
        return load_model(self.folder)

    @cached_property
    def _tables(self) -> dict[str, Tensor]:
        probes = PROBE * torch.eye(self._model.target.n_features)
        with torch.no_grad():
            return {name: found.lower for name, found in self._model.importance_of(probes).items()}

    def own_features(self) -> tuple[int, int]:
        """Features that have a component of their own in every site where they should, and how many should."""
        known = self._known("identity")
        features = next(iter(known.values())).features
        own = torch.stack([features_of_their_own(self._tables[name][features]) for name in known]).all(0)
        return int(own.sum()), len(features)

    def found_features(self) -> tuple[int, int]:
        """Features whose most important component has the direction of their column in ``linear1``, and all."""
        features = self._known("identity")["linear1"].features
        table, parts = self._tables["linear1"][features], self._model.components["linear1"]
        columns = _chosen_columns(parts.V.detach()[features], parts.U.detach(), table.argmax(1))
        aligned = torch.cosine_similarity(columns, parts.site.weight()[:, features].T) >= MIN_COSINE
        return int((features_of_their_own(table) & aligned).sum()), len(features)

    def writing(self) -> str:
        """How many features share a live component of the layers that write to the stream."""
        said = []
        for name in self._known("dense", "*.mlp_out"):
            live = self._tables[name][:, alive_components(self._tables[name], HALF)]
            served = (live > HALF).sum(0).float().mean().item() if live.shape[1] else 0.0
            word = "split" if served <= SPLIT else "shared"
            said.append(f"{word}: {served:.1f} features for each of {live.shape[1]}")
        return "; ".join(said) or "-"

    @cached_property
    def scrubbed(self) -> tuple[float, float]:
        """Errors of the output on probes with a random half ablated: important components kept, and ablated too."""
        errors = scrubbing_errors(self._model, PROBE * torch.eye(self._model.target.n_features))
        return errors["kept"], errors["ablated"]

    def parameters(self) -> int:
        """Numbers that were trained."""
        model = self._model
        return sum(
            part.numel() for group in (model.components, model.importance_function) for part in group.parameters()
        )

    def _known(self, kind: str, pattern: str = "*") -> dict[str, Any]:
        target = self._model.target
        assert isinstance(target, KnownMechanisms)
        known = target.known_mechanisms().items()
        return {
            name: one for name, one in known if one.kind == kind and name in self._tables and fnmatchcase(name, pattern)
        }


def _chosen_columns(read: Tensor, write: Tensor, chosen: Tensor) -> Tensor:
    """Column ``j`` of component ``chosen[j]``, ``[n, d_out]``; components have rank one or a rank of their own."""
    read, write = with_rank(read, write)
    return torch.einsum("nm,nmo->no", read[torch.arange(len(read)), chosen], write[chosen])


@cache
def found(folder: Path) -> Found:
    """The components in a directory, read once for all that is asked of them."""
    return Found(folder)


def hyper_parameters(config: dict[str, Any]) -> int:
    """Numbers, switches and choices that a config sets for its method: all under ``model`` but the target's."""
    model = {name: value for name, value in config["model"].items() if name not in ("target", "recipe", "seed")}
    return _leaves(model)


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_leaves(inner) for name, inner in value.items() if name != "class_path")
    return 1
