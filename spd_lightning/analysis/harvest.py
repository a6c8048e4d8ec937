"""One pass over data: what each component fires on, reads and comes before, in bounded memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import islice
from operator import or_
from typing import Any, Self

import torch
from torch import Tensor

from spd_lightning.analysis.call_tally import CallHarvest, CallTally, HarvestOptions, Seen, within
from spd_lightning.analysis.firings import Firings, FiringSample
from spd_lightning.errors import UsageError, check_fraction, check_text, check_whole
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel, DecomposedModel
from spd_lightning.model.call import rows_of
from spd_lightning.model.wrapping import site_of

PLACES, REACH, UNITS, TOKENS = 30, 20, 1 << 17, "input_ids"
"""Defaults: 30 windows of 20 tokens on either side; about 130 000 positions for clustering."""


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


def options(
    threshold: float = ALIVE_THRESHOLD,
    places: int = PLACES,
    reach: int = REACH,
    units: int = UNITS,
    tokens: str = TOKENS,
    batches: int | None = None,
) -> HarvestOptions:
    """Checked options; see :class:`HarvestOptions`.

    Raises:
        UsageError: for a value outside its range.
    """
    check_fraction("harvest: threshold", threshold)
    check_whole("harvest: places", places, least=1, most=1000)
    check_whole("harvest: reach", reach, least=0, most=1000)
    check_whole("harvest: units", units, least=1, most=1 << 24)
    check_text("harvest: tokens", tokens)
    if batches is not None:
        check_whole("harvest: batches", batches, least=1)
    return HarvestOptions(threshold, places, reach, units, tokens, batches)


def harvest(
    model: ComponentModel,
    batches: Iterable[Any],
    chosen: HarvestOptions | None = None,
    boundary: int | None = None,
    tally: "Tally | None" = None,
    after: Callable[["Tally"], None] = lambda tally: None,
) -> Harvest:
    """Look at all batches once.

    Positions of weight 0, such as padding, take no part; all others count alike. Statistics of tokens need batches that
    are tokens, or mappings with an entry of tokens, and are kept for sites that have a position for every token.

    Args:
        model: the decomposition, of rank-one components.
        batches: as the model's call takes them, on its device. Batches that a tally has seen are passed over.
        chosen: what is harvested; by default all of :func:`options`.
        boundary: the token between documents, by which they are told apart; ``None`` takes every example for one.
        tally: what was added up before, to go on with.
        after: called after every batch, for example to keep the tally.

    Returns:
        What was found.

    Raises:
        UsageError: for components of the older method, or data that holds no batches.
    """
    if not isinstance(model, DecomposedModel):
        raise UsageError("harvest: reads causal importances, which the older method has none of; give an SPD run")
    tally = Tally(model, chosen or options(), boundary) if tally is None else tally
    for batch in islice(batches, tally.batches, tally.options.batches):
        tally.update(model, batch)
        after(tally)
    return tally.result()


class Tally:
    """All that a harvest has added up so far.

    Args:
        model: the decomposition.
        chosen: what is harvested.
        boundary: see :func:`harvest`.
    """

    def __init__(self, model: ComponentModel, chosen: HarvestOptions, boundary: int | None = None) -> None:
        self.options, self.weights, self.boundary = chosen, fingerprint(model), boundary
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
        self.batches += 1
        self.examples += seen.rows

    def _seen(self, batch: Any, weights: Any) -> Seen:
        rows = rows_of(batch) or 1
        tokens = batch.get(self.options.tokens) if isinstance(batch, Mapping) else batch
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dim() != 2:
            return Seen(rows, self.examples, weights, None, None)
        tokens = tokens.cpu()
        if self.boundary is None:
            return Seen(rows, self.examples, weights, tokens, None)
        documents = self.documents + (tokens == self.boundary).flatten().cumsum(0).reshape(tokens.shape)
        self.documents = int(documents[-1, -1])
        return Seen(rows, self.examples, weights, tokens, documents)

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
        self.sample.update({site: reduce(or_, calls) for site, calls in fires.items()}, counted)

    def result(self) -> Harvest:
        """What was found.

        Raises:
            UsageError: if no batch was seen.
        """
        if not self.batches:
            raise UsageError("harvest: the data holds no batches")
        calls = {call: tally.result() for call, tally in self.calls.items()}
        return Harvest(self.options, self.weights, self.batches, self.examples, calls, self.sample.firings())

    def notes(self) -> dict[str, Any]:
        """What is no tensor, as plain data."""
        numbers = {name: getattr(self, name) for name in ("batches", "examples", "documents", "dimensions", "boundary")}
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
        """A tally that :meth:`notes` and :meth:`tensors` gave, to go on with."""
        tally = cls.__new__(cls)
        tally.options, tally.weights = HarvestOptions(**notes["options"]), notes["weights"]
        for name in ("batches", "examples", "documents", "dimensions", "boundary"):
            setattr(tally, name, notes[name])
        tally.calls = {
            call: CallTally.of(within(str(number), tensors), tally.options)
            for number, call in enumerate(notes["calls"])
        }
        tally.sample = FiringSample.of(notes["counts"], within("firings", tensors))
        return tally


def _common(shapes: Sequence[torch.Size]) -> int:
    """How many dimensions, from the first, all shapes have in common."""
    fewest = min(map(len, shapes))
    differing = (index for index in range(fewest) if len({shape[index] for shape in shapes}) > 1)
    return next(differing, fewest)
