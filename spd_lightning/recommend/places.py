"""What reaches a place in a network: a site, or the network itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spd_lightning.functional import keyed_generator
from spd_lightning.functional.variety import effective_dimension, growing_directions
from spd_lightning.functional.weights import Weights
from spd_lightning.model import CleanPass, DecomposedModel, Site
from spd_lightning.model.call import rows_of
from spd_lightning.model.sites import ConvolutionSite
from spd_lightning.model.wrapping import site_of

VECTORS = 1024
"""Most vectors of a place that are kept, to be compared with each other."""
INPUT = ""
"""The network's own input among the places; no module has this path."""


@dataclass(frozen=True)
class PlaceMeasure:
    """What reaches a place.

    Attributes:
        empty: share of positions where it is 0 throughout, by the weights of the positions.
        positions: per example, padding left out, all calls together.
        dimension: :func:`effective_dimension` of what is not empty.
        directions: :func:`growing_directions` of the same.
        vectors: how many were looked at.
        spread: whether examples have several positions.
    """

    empty: float
    positions: float
    dimension: float
    directions: int
    vectors: int
    spread: bool

    @property
    def filled(self) -> float:
        """Positions per example that are not empty."""
        return (1 - self.empty) * self.positions


class Place:
    """Vectors that were seen at a place, drawn from all of them, and how many positions were empty.

    Args:
        name: keys the draw.
    """

    def __init__(self, name: str) -> None:
        self._name, self._kept = name, list[Tensor]()
        self._rows, self._counted, self._empty, self._weight = 0, 0, 0.0, 0.0
        self._spread = False

    @property
    def is_full(self) -> bool:
        """Whether enough vectors were seen."""
        return sum(map(len, self._kept)) >= VECTORS

    def begin(self, rows: int) -> None:
        """Take in the number of examples of a batch."""
        self._rows += rows

    def see(self, vectors: Tensor, leading: torch.Size, weights: Weights) -> None:
        """Take in vectors.

        Args:
            vectors: ``[*leading, d]`` or, where the site says, others ``[n, d]``.
            leading: of the positions.
            weights: of the positions.
        """
        weight = weights.of(leading)
        weight = torch.ones(leading, device=vectors.device) if weight is None else weight
        counted = weight > 0
        self._counted += int(counted.sum())
        self._spread |= len(leading) > 1
        fitting = vectors.shape[:-1] == leading
        vectors, weight = (vectors[counted], weight[counted]) if fitting else (vectors, vectors.new_ones(len(vectors)))
        filled = (vectors != 0).any(1)
        self._empty += float(weight[~filled].double().sum())
        self._weight += float(weight.double().sum())
        self._keep(vectors[filled])

    def _keep(self, vectors: Tensor) -> None:
        order = torch.randperm(len(vectors), generator=keyed_generator("recommend", self._name, len(self._kept)))
        wanted = max(VECTORS - sum(map(len, self._kept)), 0)
        self._kept.append(vectors[order[:wanted].to(vectors.device)].cpu())

    def measured(self) -> PlaceMeasure:
        """What was seen."""
        vectors = torch.cat(self._kept)
        dimension, directions = effective_dimension(vectors), growing_directions(vectors)
        empty, positions = self._empty / self._weight if self._weight else 1.0, self._counted / max(self._rows, 1)
        return PlaceMeasure(empty, positions, dimension, directions, len(vectors), self._spread)


def look(model: DecomposedModel, clean: CleanPass, batch: Any, places: dict[str, Place]) -> None:
    """Take in what reaches every site, and the network, on a batch.

    Args:
        model: whose sites they are.
        clean: its clean pass on the batch.
        batch: as its call takes it.
        places: by site, and :data:`INPUT`; those that are missing are added.
    """
    for name in {site_of(call): None for call in clean.site_inputs}:
        places.setdefault(name, Place(name)).begin(rows_of(batch) or 0)
    for call, site_input in clean.site_inputs.items():
        site = model.wrapping.sites[site_of(call)]
        places[site_of(call)].see(site.examples(site_input), _leading(site, site_input), clean.weights)
    for vectors in _given(model, batch):
        place = places.setdefault(INPUT, Place(INPUT))
        place.begin(rows_of(batch) or 0)
        place.see(vectors, vectors.shape[:-1], clean.weights)


def _leading(site: Site, site_input: Tensor) -> torch.Size:
    return site.gate_features(site_input).shape[:-1]


def _given(model: DecomposedModel, batch: Any) -> Iterator[Tensor]:
    """What the network is called with, if that is one tensor of vectors."""
    arguments = model.call.arguments(batch)
    tensors = [leaf for leaf in tree_leaves((arguments.args, arguments.kwargs)) if isinstance(leaf, Tensor)]
    vectors = [leaf for leaf in tensors if leaf.is_floating_point() and 2 <= leaf.dim() <= 3]
    convolves = any(isinstance(site, ConvolutionSite) for site in model.wrapping.sites.values())
    if len(tensors) == len(vectors) == 1 and not convolves:
        yield vectors[0]
