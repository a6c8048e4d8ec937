"""What a harvest has added up: of all the data, or of a share of it that is joined with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from spd_lightning.analysis.call_tally import CallHarvest, CallTally, HarvestOptions, Seen
from spd_lightning.analysis.firings import Firings, FiringSample
from spd_lightning.analysis.kept import within
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.functional.weights import Weights
from spd_lightning.model import DecomposedModel
from spd_lightning.model.call import rows_of
from spd_lightning.model.wrapping import site_of

NUMBERS = ("batches", "examples", "documents", "dimensions")


@dataclass(frozen=True)
class Harvest:
    """What the components of a decomposition do on some data.

    Attributes:
        options: what was harvested.
        weights: fingerprint of the decomposition.
        batches: batches that were seen.
        examples: examples that were seen.
        calls: by site call.
        firings: which components are important together.
    """

    options: HarvestOptions
    weights: str
    batches: int
    examples: int
    calls: dict[str, CallHarvest]
    firings: Firings


class Share(NamedTuple):
    """Batches that one process looks at.

    Attributes:
        first: number of the first.
        stop: number of the first that is another's; ``None`` for all that there are.
    """

    first: int = 0
    stop: int | None = None


WHOLE = Share()


def shares(count: int, batches: int) -> list[Share]:
    """Data in shares of batches that follow each other, as equal as can be; some are empty if there are too many.

    Args:
        count: how many shares.
        batches: how many batches there are.
    """
    cuts = [batches * index // count for index in range(count + 1)]
    return [Share(first, stop) for first, stop in pairwise(cuts)]


class Tally:
    """All that a harvest has added up so far, and where in the data it is.

    Args:
        model: the decomposition.
        chosen: what is harvested.
        boundary: see :func:`spd_lightning.analysis.harvest`.
        share: the batches that are added up. Those before are counted only, to know where in the data it begins.
    """

    def __init__(
        self, model: DecomposedModel, chosen: HarvestOptions, boundary: int | None = None, share: Share = WHOLE
    ) -> None:
        self.options, self.weights, self.boundary, self.share = chosen, fingerprint(model), boundary, share
        self.batches = self.examples = self.documents = self.dimensions = 0
        self.calls: dict[str, CallTally] = {}
        self.sample = FiringSample({name: parts.n_components for name, parts in model.components.items()}, chosen.units)

    @torch.no_grad()
    def update(self, model: DecomposedModel, batch: Any) -> None:
        """Add a batch."""
        clean = model.clean(batch)
        lower = {call: found.lower.float().cpu() for call, found in model.importance(clean).items()}
        seen = self._seen(batch, clean.weights)
        for call, importance in lower.items():
            inner = model.components[site_of(call)].inner(clean.site_inputs[call]).float().cpu()
            self._tally_of(call, importance, seen).update(importance, inner, seen)
        self._sample(lower, seen)
        self._pass(seen)

    def pass_over(self, batch: Any) -> None:
        """Count a batch that another process adds."""
        self._pass(self._seen(batch, Weights()))

    def _pass(self, seen: Seen) -> None:
        self.batches += 1
        self.examples += seen.rows

    def _seen(self, batch: Any, weights: Weights) -> Seen:
        rows = rows_of(batch) or 1
        place = self.batches, rows, self.examples, weights
        tokens = batch.get(self.options.tokens) if isinstance(batch, Mapping) else batch
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dim() != 2:
            return Seen(*place, None, None)
        tokens = tokens.cpu()
        if self.boundary is None:
            return Seen(*place, tokens, None)
        documents = self.documents + (tokens == self.boundary).flatten().cumsum(0).reshape(tokens.shape)
        self.documents = int(documents[-1, -1])
        return Seen(*place, tokens, documents)

    def _tally_of(self, call: str, importance: Tensor, seen: Seen) -> CallTally:
        if call not in self.calls:
            text = seen.tokens is not None and importance.shape[:-1] == seen.tokens.shape
            self.calls[call] = CallTally(importance.shape[-1], self.options, text)
        return self.calls[call]

    def _sample(self, lower: Mapping[str, Tensor], seen: Seen) -> None:
        """Take firings of all sites at what their positions have in common."""
        if not self.dimensions:
            self.dimensions = _common([importance.shape[:-1] for importance in lower.values()])
            if not self.dimensions:
                raise UsageError(f"harvest: no dimension of the importances is common to all of {', '.join(lower)}")
        fires: dict[str, list[Tensor]] = {}
        for call, importance in lower.items():
            leading, rest = importance.shape[: self.dimensions], importance.shape[self.dimensions : -1]
            counted = seen.counted(importance.shape[:-1])
            important = (importance > self.options.threshold).reshape(len(counted), -1) & counted[:, None]
            units = important.reshape(leading.numel(), max(rest.numel(), 1), -1).any(1)
            fires.setdefault(site_of(call), []).append(units)
        counted = seen.counted(leading)
        number = seen.examples * len(counted) // seen.rows  # known to whoever has counted the examples before
        self.sample.update({site: reduce(or_, calls) for site, calls in fires.items()}, counted, number)

    def add(self, other: Self) -> None:
        """Add the share of the data that comes after this one.

        Raises:
            UsageError: if the network's sites have other positions there.
        """
        for call, theirs in other.calls.items():
            ours = self.calls.setdefault(call, theirs)
            if ours.tokens.keys() != theirs.tokens.keys() or self.dimensions not in (0, other.dimensions):
                raise UsageError("harvest: positions of sites differ between batches; give one process")
            if ours is not theirs:
                ours.add(theirs)
        self.sample.add(other.sample)
        self.share = Share(self.share.first, other.share.stop)
        self.batches, self.examples, self.documents = other.batches, other.examples, other.documents
        self.dimensions = self.dimensions or other.dimensions

    def result(self) -> Harvest:
        """What was found."""
        calls = {call: tally.result() for call, tally in self.calls.items()}
        return Harvest(self.options, self.weights, self.batches, self.examples, calls, self.sample.firings())

    def notes(self) -> dict[str, Any]:
        """What is no tensor, as plain data."""
        numbers = {name: getattr(self, name) for name in (*NUMBERS, "boundary", "share")}
        counts = {"calls": list(self.calls), "counts": self.sample.counts}
        return {"options": asdict(self.options), "weights": self.weights, **numbers, **counts}

    def tensors(self) -> dict[str, Tensor]:
        """The rest, to be kept in a file."""
        found = {f"firings/{name}": tensor for name, tensor in self.sample.tensors().items()}
        for number, tally in enumerate(self.calls.values()):
            found |= {f"{number}/{name}": tensor for name, tensor in tally.tensors().items()}
        return found

    @classmethod
    def of(cls, notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """A tally that :meth:`notes` and :meth:`tensors` gave, to go on with.

        Raises:
            KeyError: if something is missing.
            TypeError: if something is of another type.
            ValueError: if something cannot be.
        """
        tally = cls.__new__(cls)
        tally.options, tally.weights = HarvestOptions(**notes["options"]), notes["weights"]
        tally.boundary, tally.share = notes["boundary"], Share(*notes["share"])
        for name in NUMBERS:
            check_whole(name, notes[name], least=0, most=None)
            setattr(tally, name, notes[name])
        tally.calls = {
            call: CallTally.of(within(str(number), tensors), tally.options)
            for number, call in enumerate(notes["calls"])
        }
        tally.sample = FiringSample.of(notes["counts"], within("firings", tensors))
        if any(len(found.firings) != notes["counts"][site_of(call)] for call, found in tally.calls.items()):
            raise ValueError("a call of another width than its site")
        return tally


def _common(shapes: Sequence[torch.Size]) -> int:
    """How many dimensions, from the first, all shapes have in common."""
    fewest = min(map(len, shapes))
    differing = (index for index in range(fewest) if len({shape[index] for shape in shapes}) > 1)
    return next(differing, fewest)
