"""What a circuit has to put out: a token, a class, or what the target itself does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.functional.distances import DistanceKind, distance_rows
from spd_lightning.functional.precision import single, single_type
from spd_lightning.model import ComponentModel

LAST = -1


@dataclass(frozen=True)
class Goal:
    """An output that is wanted, and how far another one is from it.

    A token or class is the special case of an output that puts all probability on it: its divergence is the cross
    entropy.

    Attributes:
        wanted: ``[rows, positions, d]``; of a token or class, logits that are 0 there and -inf elsewhere.
        distance: ``"kl"``, in nats, or ``"mse"``.
        position: the only position of the output that counts; ``None`` for all.
        weights: of the positions, ``[rows, positions]``, with sum 1 in every row.
        labels: the token or class of every row, ``[rows]``; ``None`` for the target's own output.
    """

    wanted: Tensor
    distance: DistanceKind
    position: int | None
    weights: Tensor
    labels: Tensor | None = None

    @classmethod
    def own_output(
        cls, model: ComponentModel, batch: Any, distance: DistanceKind = "mse", position: int | None = None
    ) -> "Goal":
        """What the target itself puts out on the batch.

        Args:
            model: the decomposition.
            batch: as the model's call takes it.
            distance: how outputs are compared; best as in training.
            position: see the class; negative numbers count from the end.

        Raises:
            UsageError: for a position that the output does not have.
        """
        clean = model.clean(batch)
        output, leading = clean.output, clean.output.shape[:-1]
        even = torch.ones(leading, dtype=single_type(output.dtype), device=output.device)
        raw = even if clean.weights.values is None else clean.weights.raw(leading).to(even)
        place = None if position is None else _place(output, position)
        weights = _at(raw[..., None], place)[..., 0]
        total = weights.sum(1, keepdim=True)
        if bool((total == 0).any()):
            raise UsageError("circuit: a row has no position that counts; choose another position or example")
        return cls(_at(output, place), distance, place, weights / total)

    @classmethod
    def label(cls, model: ComponentModel, batch: Any, labels: int | Sequence[int] | Tensor, at: int = LAST) -> "Goal":
        """A token or class.

        Args:
            model: the decomposition, of a target that puts out logits.
            batch: as the model's call takes it.
            labels: its number, for all rows or for each.
            at: position of the output that counts, where it has positions; negative numbers count from the end.

        Raises:
            UsageError: for a number or position that the output does not have, or a token that the target rules out.
        """
        output = model.clean(batch).output
        rows, classes = len(output), output.shape[-1]
        given = torch.as_tensor(labels, device=output.device).long().reshape(-1)
        if len(given) not in (1, rows):
            raise UsageError(
                f"circuit: there are {rows} rows, got {len(given)} wanted tokens or classes; give 1 or all"
            )
        for label in given.tolist():
            check_whole("circuit: the wanted token or class", label, least=0, most=classes - 1)
        given, place = given.expand(rows), _place(output, at)
        if bool((_at(output, place)[:, 0].gather(1, given[:, None]) == -torch.inf).any()):
            raise UsageError("circuit: the target never puts out the wanted token or class; want another one")
        wanted = torch.full((rows, 1, classes), -torch.inf, dtype=output.dtype, device=output.device)
        wanted.scatter_(2, given[:, None, None], 0.0)
        return cls(wanted, "kl", place, single(torch.ones_like(wanted[..., 0])), given)

    def rows(self, output: Tensor) -> Tensor:
        """Distance of every row of an output ``[rows, ..., d]`` from what is wanted, ``[rows]``."""
        found = distance_rows(self.distance, _at(output, self.position), self.wanted)
        return (found * self.weights.to(found)).sum(1)

    def right(self, output: Tensor) -> Tensor | None:
        """Share of the positions of every row where the wanted logit is larger than any other, ``[rows]``.

        ``None`` where outputs are no logits.
        """
        if self.distance != "kl":
            return None
        logits, wanted = _at(output, self.position), self.wanted.argmax(-1, keepdim=True)
        others = logits.scatter(-1, wanted, -torch.inf).amax(-1)
        largest = logits.gather(-1, wanted)[..., 0] > others
        return (largest.to(self.weights) * self.weights).sum(1)


def _at(output: Tensor, position: int | None) -> Tensor:
    """``[rows, ..., d]`` as ``[rows, positions, d]``, one position or all."""
    flat = output.reshape(len(output), -1, output.shape[-1])
    return flat if position is None else flat[:, position : position + 1]


def _place(output: Tensor, position: int) -> int:
    count = output.shape[:-1].numel() // len(output)
    check_whole("circuit: the position", position, least=-count, most=count - 1)
    return position % count
