"""What ablating components one by one changes on probes."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.functional.distances import DistanceKind, distance_rows
from spd_lightning.model import CausalImportance, ComponentModel
from spd_lightning.model.wrapping import site_of

NUMBERS_AT_ONCE = 2**24


class Effects(NamedTuple):
    """What is changed in the output of all components, one component of a site ablated at a time.

    Attributes:
        squared: mean squared change of each row's output, ``[rows, n]``; a row is a probe, or one of its positions.
        change: mean absolute change of each output over the rows, ``[n, outputs]``.
        distance: distance of the output from that of all components, ``[n]``, in the unit of its kind.
    """

    squared: Tensor
    change: Tensor
    distance: Tensor


@torch.no_grad()
def single_ablations(
    model: ComponentModel,
    probes: Tensor,
    importances: Mapping[str, CausalImportance],
    site: str,
    ablated: list[int],
    kind: DistanceKind,
) -> Effects:
    """Ablate components of a site by themselves, with what belongs to them at other sites.

    Args:
        model: the decomposition.
        probes: a batch of inputs.
        importances: of the components on it; masks have their shapes.
        site: its name.
        ablated: the components.
        kind: the distance.
    """
    whole: Tensor = model(probes)
    found = [
        Effects(
            (output - whole).square().mean(-1).flatten(1).T,
            (output - whole).abs().flatten(1, -2).mean(1),
            distance_rows(kind, output, whole.expand_as(output)).flatten(1).mean(1),
        )
        for output in _outputs(model, probes, importances, site, ablated)
    ]
    if not found:
        rows, outputs = whole.shape[:-1].numel(), whole.shape[-1]
        return Effects(torch.zeros(rows, 0), torch.zeros(0, outputs), torch.zeros(0))
    squared, change, distance = zip(*found, strict=True)
    return Effects(torch.cat(squared, 1), torch.cat(change), torch.cat(distance))


def _outputs(
    model: ComponentModel,
    probes: Tensor,
    importances: Mapping[str, CausalImportance],
    site: str,
    ablated: list[int],
) -> Iterator[Tensor]:
    """Outputs without each of some components, ``[n, *shape of the output]``, as many at once as memory allows."""
    widest = max(found.lower.numel() for found in importances.values())
    at_once = max(NUMBERS_AT_ONCE // widest, 1)
    for first in range(0, len(ablated), at_once):
        part = ablated[first : first + at_once]
        batch = probes.expand(len(part), *probes.shape).flatten(0, 1)
        output = model.masked(batch, _masks(model, importances, site, part)).output
        yield output.reshape(len(part), len(probes), *output.shape[1:])


def _masks(
    model: ComponentModel, importances: Mapping[str, CausalImportance], site: str, ablated: list[int]
) -> dict[str, Tensor]:
    """Masks for the probes, once for each ablated component, that turn it off."""
    masks = {}
    for call, found in importances.items():
        probes, *positions, count = found.lower.shape
        masks[call] = found.lower.new_ones(len(ablated), probes, *[1] * len(positions), count)
    for row, component in enumerate(ablated):
        members = model.mechanisms.members(site, component)
        for call, mask in masks.items():
            mask[row, ..., members.get(site_of(call), [])] = 0
    return {call: mask.flatten(0, 1) for call, mask in masks.items()}
