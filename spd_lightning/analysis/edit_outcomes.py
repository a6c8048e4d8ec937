"""What changed weights do to an output, on average where some components matter and where they do not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional.distances import DistanceKind, distance_rows
from spd_lightning.functional.precision import single
from spd_lightning.functional.weights import Weights
from spd_lightning.model import CausalImportance, ComponentModel
from spd_lightning.model.call import IGNORED
from spd_lightning.model.wrapping import site_of

Numbers = Mapping[str, set[int]]
"""Numbers of components by site."""


@dataclass(frozen=True)
class Outcome:
    """What changes of the weights did to the output; one entry for each change that was tried.

    Means over positions, by their weights, so that padding takes no part. NaN where there are none.

    Attributes:
        effect: distance from the target's output where an edited component is important, ``[n]``.
        elsewhere: the same at all other positions, ``[n]``: small for an edit that is specific.
        loss_effect: how much the cross entropy of the labels rose where an edited component is important, in nats,
            ``[n]``; NaN where batches hold no labels.
        loss_elsewhere: the same at all other positions, ``[n]``.
    """

    effect: Tensor
    elsewhere: Tensor
    loss_effect: Tensor
    loss_elsewhere: Tensor


class CleanBatch(NamedTuple):
    """A batch as the target sees it.

    Attributes:
        output: ``[..., d]``.
        weights: of the output's positions, ``[...]``, in double precision.
        inside: positions where an edited component is important, boolean ``[...]``.
        labels: class numbers ``[...]``, if there are any.
    """

    output: Tensor
    weights: Tensor
    inside: Tensor
    labels: Tensor | None

    @classmethod
    def of(cls, model: ComponentModel, batch: Any, numbers: Numbers, threshold: float) -> "CleanBatch":
        """Run the target and its importance function."""
        clean = model.clean(batch)
        leading = clean.output.shape[:-1]
        inside = torch.zeros(leading, dtype=torch.bool, device=clean.output.device)
        for call, importance in model.importance_of(batch).items():
            some = sorted(numbers.get(site_of(call), ()))
            if some:
                inside |= at_positions(fires(importance, clean.weights, threshold)[..., some].any(-1), leading)
        return cls(
            clean.output,
            raw_weights(clean.weights, leading).to(clean.output.device),
            inside,
            model.call.fitting_labels(batch, clean.output),
        )


class Sums:
    """Sums over positions where an edited component is important (0) and over all others (1).

    Args:
        tried: number of changes.

    Attributes:
        weight: of the positions, ``[2]``.
    """

    def __init__(self, tried: int) -> None:
        self.weight, self._labelled = torch.zeros(2, dtype=torch.double), torch.zeros(2, dtype=torch.double)
        self._distance, self._loss = (torch.zeros(tried, 2, dtype=torch.double) for _ in range(2))

    def positions(self, clean: CleanBatch) -> None:
        """Count a batch's positions."""
        self.weight += _divided(torch.ones_like(clean.weights), clean.weights, clean.inside)
        if clean.labels is not None:
            self._labelled += _divided((clean.labels != IGNORED).double(), clean.weights, clean.inside)

    def add(self, number: int, clean: CleanBatch, rows: Tensor, rise: Tensor | None) -> None:
        """Add what a change did to a batch: distances ``[...]`` and, where there are labels, rises of cross entropy."""
        self._distance[number] += _divided(rows, clean.weights, clean.inside)
        if rise is not None:
            self._loss[number] += _divided(rise, clean.weights, clean.inside)

    def outcomes(self, lengths: Sequence[int]) -> list[Outcome]:
        """Means, the changes in groups of these lengths."""
        columns = torch.cat([self._distance / self.weight, self._loss / self._labelled], 1)
        ends = list(accumulate(lengths, initial=0))
        return [Outcome(*columns[start:end].unbind(1)) for start, end in pairwise(ends)]


def fires(importance: CausalImportance, weights: Weights, threshold: float) -> Tensor:
    """Where components are important, boolean ``[..., C]``; nowhere that does not count, such as padding."""
    found = importance.lower > threshold
    if weights.values is None:
        return found
    return found & (weights.raw(found.shape[:-1]) > 0).to(found.device)[..., None]


def add_up(sums: Sums, clean: CleanBatch, distance: DistanceKind, outputs: Iterable[Tensor]) -> None:
    """Count a batch, and what every change made of its output, the changes in their order."""
    sums.positions(clean)
    before = _cross_entropy(clean.output, clean.labels)
    for number, output in enumerate(outputs):
        after = _cross_entropy(output, clean.labels)
        rise = None if before is None or after is None else after - before
        sums.add(number, clean, distance_rows(distance, output, clean.output), rise)


def _divided(rows: Tensor, weights: Tensor, inside: Tensor) -> Tensor:
    """Weighted sums of ``[...]`` inside and outside, ``[2]``, on the CPU; what weighs nothing may be anything."""
    weighed = torch.where(weights > 0, rows.double() * weights, 0.0)
    return torch.stack([weighed[inside].sum(), weighed[~inside].sum()]).cpu()


def _cross_entropy(output: Tensor, labels: Tensor | None) -> Tensor | None:
    """Of each position, ``[...]``, in nats; 0 where there is no label."""
    if labels is None:
        return None
    flat = F.cross_entropy(single(output).flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.reshape(labels.shape)


def raw_weights(weights: Weights, leading: torch.Size) -> Tensor:
    """Weights of positions, in the unit that they were given in and double precision, ``[...]``."""
    if weights.values is None:
        return torch.ones(leading, dtype=torch.double)
    return weights.raw(leading).double()


def at_positions(marked: Tensor, leading: torch.Size) -> Tensor:
    """Marks of a site's positions at those of the output.

    Args:
        marked: boolean, of any shape that the site has.
        leading: of the output.

    Returns:
        Boolean ``[...]``: where shapes differ, an output is marked if any of a site's positions that it stands for is;
        where they have nothing but rows in common, if any of its row is.

    Raises:
        UsageError: if they do not even have those in common.
    """
    try:
        return Weights(marked).raw(leading) > 0
    except ValueError:
        if marked.shape[:1] != leading[:1]:
            raise UsageError(
                f"edit: a site has positions of shape {list(marked.shape)}, which say nothing about an output of "
                f"{list(leading)}"
            ) from None
    rows = marked.flatten(1).any(1)
    return rows.reshape(-1, *[1] * (len(leading) - 1)).expand(leading)
