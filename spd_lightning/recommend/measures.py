"""What is measured of a network before it is taken apart: of the network and its data alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from spd_lightning.errors import UsageError
from spd_lightning.functional import mean_output
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.functional.variety import numerical_rank
from spd_lightning.losses import Noise, Step
from spd_lightning.losses.reconstruction import measured_cost
from spd_lightning.losses.sources import zero_masks
from spd_lightning.model import DecomposedModel
from spd_lightning.model.sites import ConvolutionSite
from spd_lightning.model.wrapping import site_of
from spd_lightning.recommend.places import INPUT, Place, PlaceMeasure, look

BATCHES = 16
"""Most batches that are looked at."""


@dataclass(frozen=True)
class SiteMeasure:
    """A site.

    Attributes:
        shape: rows and columns of its weight.
        rank: :func:`numerical_rank` of its weight.
        reached: what reaches it.
        cost: what ablating it alone costs, as a share of what ablating every site costs.
    """

    shape: tuple[int, int]
    rank: int
    reached: PlaceMeasure
    cost: float


@dataclass(frozen=True)
class NetworkMeasure:
    """A network on its data.

    Attributes:
        sites: by name.
        inputs: what reaches the network itself, where that is one tensor of vectors.
        distance: how outputs are compared.
        variation: distance of the outputs from the best one that does not look at the input.
        cost: distance of the outputs without any site.
        convolves: whether a site is a convolution.
    """

    sites: dict[str, SiteMeasure]
    inputs: PlaceMeasure | None
    distance: DistanceKind
    variation: float
    cost: float
    convolves: bool

    def features_of(self, name: str) -> int:
        """Estimate of the number of features that reach a site: its dimension or, if there are more, its directions.

        Of a site's directions no more count than the network's input has, if it has any: behind a ReLU there are more
        of them than features.
        """
        reached = self.sites[name].reached
        seen = self.inputs.directions if self.inputs is not None else 0
        directions = min(reached.directions, seen) if seen else reached.directions
        return max(round(reached.dimension), directions)


def measure(model: DecomposedModel, batches: Iterable[Any], kind: DistanceKind) -> NetworkMeasure:
    """Look at a network on some batches.

    Args:
        model: any decomposition of it; components play no part.
        batches: as its call takes them.
        kind: how outputs are compared.

    Returns:
        What was found; costs and variation are those of the first batch.

    Raises:
        UsageError: if ablating everything changes nothing.
    """
    places: dict[str, Place] = {}
    first: Step | None = None
    for _, batch in zip(range(BATCHES), batches, strict=False):
        step = Step.of(model, batch, Noise(("recommend",), next(model.parameters()).device))
        first = first or step
        look(model, step.clean, batch, places)
        if all(place.is_full for place in places.values()):
            break
    if first is None:
        raise UsageError("data: it gives no training batches; give some")
    variation, cost, alone = _costs(first, kind)
    found = {name: place.measured() for name, place in places.items()}
    sites = {
        name: SiteMeasure((site.d_out, site.d_in), numerical_rank(site.weight()), found[name], alone[name])
        for name, site in model.wrapping.sites.items()
    }
    convolves = any(isinstance(site, ConvolutionSite) for site in model.wrapping.sites.values())
    return NetworkMeasure(sites, found.get(INPUT), kind, variation, cost, convolves)


@torch.no_grad()
def _costs(step: Step, kind: DistanceKind) -> tuple[float, float, dict[str, float]]:
    """Variation of the output, cost of ablating everything, and shares of that by site."""
    output = step.clean.output
    constant = mean_output(kind, output, step.weights_of(output)).to(output).expand_as(output)
    cost = measured_cost(step, kind)
    masks, alone = zero_masks(step), {}
    for name in step.model.site_names:
        own = {call: mask for call, mask in masks.items() if site_of(call) == name}
        alone[name] = step.distance(kind, step.masked(own)).item() / cost
    return step.distance(kind, constant).item(), cost, alone
