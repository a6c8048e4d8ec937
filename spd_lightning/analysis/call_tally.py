"""What one site call's components do, added up while data goes by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from spd_lightning.analysis.kept import check_below, check_lengths, check_like, within
from spd_lightning.analysis.places import NO_TOKEN, Places, windows
from spd_lightning.analysis.token_statistics import TokenCounts
from spd_lightning.analysis.tree_sum import TreeSum
from spd_lightning.functional.weights import Weights

BINS = 20
"""Bins of a histogram of importances, of equal width from 0 to 1."""
COUNTS = ("firings", "positive", "histogram")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class HarvestOptions:
    """What is harvested.

    Attributes:
        threshold: importance above which a component counts as important.
        places: strongest places that are kept of a component.
        reach: tokens on either side of a place that are kept with it.
        units: positions whose firings are kept at most, for clustering.
        tokens: the batch's entry that holds tokens, ``[rows, positions]``.
        batches: how many batches are looked at; ``None`` for all.
    """

    threshold: float
    places: int
    reach: int
    units: int
    tokens: str
    batches: int | None


class Seen(NamedTuple):
    """A batch, and where it stands in the data.

    Attributes:
        batch: its number in the data.
        rows: its number of examples.
        examples: number of examples before it.
        weights: what its positions weigh.
        tokens: ``[rows, positions]``, or ``None`` where it is no text.
        documents: number of the document of each token, ``[rows, positions]``; ``None`` where every example is one.
    """

    batch: int
    rows: int
    examples: int
    weights: Weights
    tokens: Tensor | None
    documents: Tensor | None

    def counted(self, leading: torch.Size) -> Tensor:
        """Which positions count, boolean, flat."""
        if self.weights.values is None:
            return torch.ones(leading.numel(), dtype=torch.bool)
        return (self.weights.raw(leading) > 0).flatten().cpu()


class Fired(NamedTuple):
    """Where components are important, one entry each, at flat positions of a batch."""

    places: Tensor
    components: Tensor
    importance: Tensor
    inner: Tensor


@dataclass(frozen=True)
class CallHarvest:
    """What the components of one site call do.

    Attributes:
        positions: how many positions count; padding does not.
        firings: positions on which each is important, ``[C]``.
        mean_importance: mean of the lower-leaky importance over positions, ``[C]``.
        histogram: positions by importance, in 20 bins of equal width from 0 to 1, ``[C, 20]``.
        positive: share of its firings on which the inner activation is above 0, ``[C]``; NaN without firings.
        rms_inner: root mean square of the inner activation where it is important, ``[C]``; NaN without firings.
        places: where they are strongest.
        on: tokens that they are important on; ``None`` where there are no tokens.
        before: tokens that follow where they are important.
    """

    positions: int
    firings: Tensor
    mean_importance: Tensor
    histogram: Tensor
    positive: Tensor
    rms_inner: Tensor
    places: Places
    on: TokenCounts | None
    before: TokenCounts | None

    @property
    def density(self) -> Tensor:
        """Share of the positions on which each is important, ``[C]``."""
        return self.firings / max(self.positions, 1)


class CallTally:
    """The sums behind a :class:`CallHarvest`.

    Args:
        n_components: ``C``.
        options: see there.
        text: whether the site has a position for every token.
    """

    def __init__(self, n_components: int, options: HarvestOptions, text: bool) -> None:
        self.options, self.positions = options, 0
        self.firings, self.positive = torch.zeros(2, n_components, dtype=torch.long)
        self.histogram = torch.zeros(n_components, BINS, dtype=torch.long)
        self.sums = TreeSum()
        self.places = Places.none(2 * options.reach + 1 if text else 0)
        self.tokens = {side: TokenCounts(n_components) for side in (("on", "before") if text else ())}

    def update(self, lower: Tensor, inner: Tensor, seen: Seen) -> None:
        """Add a batch.

        Args:
            lower: lower-leaky importances ``[..., C]``, on the CPU.
            inner: inner activations ``[..., C]``, on the CPU.
            seen: the batch.
        """
        leading = lower.shape[:-1]
        counted = seen.counted(leading)
        flat = lower.reshape(-1, lower.shape[-1]) * counted[:, None]
        self.positions += int(counted.sum())
        fired = self._fired(flat, inner.reshape(flat.shape), int(counted.sum()))
        squares = torch.zeros(flat.shape[1], dtype=torch.double)
        squares.index_add_(0, fired.components, fired.inner.double().square())
        self.sums.add(seen.batch, torch.stack([flat.sum(0, dtype=torch.double), squares]))
        if self.tokens:
            self._count_tokens(fired, counted, seen)
        self._keep_places(fired, lower, seen)

    def _fired(self, flat: Tensor, inner: Tensor, positions: int) -> Fired:
        """Count what is important, and find where."""
        places, components = (flat > 0).nonzero(as_tuple=True)
        importance = flat[places, components]
        bins = (importance * BINS).long().clamp_max(BINS - 1)
        found = (components * BINS + bins).bincount(minlength=self.histogram.numel()).reshape(self.histogram.shape)
        found[:, 0] += positions - found.sum(1)  # most importances are 0, and are not looked at
        self.histogram += found
        fires = importance > self.options.threshold
        places, components, importance = places[fires], components[fires], importance[fires]
        values = inner[places, components]
        self.firings += components.bincount(minlength=len(self.firings))
        self.positive += components[values > 0].bincount(minlength=len(self.firings))
        return Fired(places, components, importance, values)

    def _count_tokens(self, fired: Fired, counted: Tensor, seen: Seen) -> None:
        assert seen.tokens is not None
        there = counted.reshape(seen.tokens.shape)
        following, followed = torch.zeros_like(seen.tokens), torch.zeros_like(there)
        following[:, :-1], followed[:, :-1] = seen.tokens[:, 1:], there[:, :-1] & there[:, 1:]
        for side, tokens, known in (("on", seen.tokens, there), ("before", following, followed)):
            known = known.flatten()
            place, taken = known.cumsum(0) - 1, known[fired.places]
            self.tokens[side].update_sparse(
                place[fired.places[taken]], fired.components[taken], tokens.flatten()[known].long()
            )

    def _keep_places(self, fired: Fired, lower: Tensor, seen: Seen) -> None:
        """Keep what is stronger than the weakest place that is kept."""
        count = self.options.places
        scores = fired.inner.abs() * fired.importance
        within = max(lower.shape[:-1].numel() // seen.rows, 1)
        rows, positions = fired.places // within, fired.places % within
        text = seen.tokens if self.tokens else None
        documents = seen.examples + rows if text is None or seen.documents is None else seen.documents[rows, positions]
        near = torch.zeros(len(scores), 0, dtype=torch.int32)
        found = Places(
            fired.components,
            documents,
            seen.examples + rows,
            positions,
            scores,
            fired.inner,
            fired.importance,
            near,
            near.half(),
        )[(scores >= self.places.bar(count, len(self.firings))[fired.components]).nonzero()[:, 0]].strongest(count)
        if not len(found):
            return
        if text is not None:
            found = self._with_windows(found, lower, text, seen.examples)
        self.places = self.places.joined(found).strongest(count)

    def _with_windows(self, found: Places, lower: Tensor, tokens: Tensor, examples: int) -> Places:
        rows, reach = found.examples - examples, self.options.reach
        around = windows(tokens, rows, found.positions, reach, NO_TOKEN).int()
        at = windows(torch.arange(tokens.numel()).reshape(tokens.shape), rows, found.positions, reach, 0)
        importances = lower.reshape(-1, lower.shape[-1])[at, found.components[:, None]]
        importances = importances.masked_fill(around == NO_TOKEN, 0)
        return Places(**found.tensors() | {"tokens": around, "importances": importances.half()})

    def add(self, other: Self) -> None:
        """Add what another has added up from other batches."""
        self.positions += other.positions
        for name in COUNTS:
            getattr(self, name).add_(getattr(other, name))
        self.sums.join(other.sums)
        self.places = self.places.joined(other.places).strongest(self.options.places)
        for side, counts in self.tokens.items():
            counts.add(other.tokens[side])

    def result(self) -> CallHarvest:
        """What was found."""
        importance, squares = self.sums.total()
        rms = (squares / self.firings).sqrt().float()
        mean = (importance / max(self.positions, 1)).float()
        return CallHarvest(
            self.positions,
            self.firings,
            mean,
            self.histogram,
            self.positive / self.firings,
            rms,
            self.places,
            self.tokens.get("on"),
            self.tokens.get("before"),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept in a file."""
        found = {name: getattr(self, name) for name in COUNTS} | {"positions": torch.tensor(self.positions)}
        parts: dict[str, Places | TreeSum | TokenCounts] = {"sums": self.sums, "places": self.places, **self.tokens}
        for prefix, part in parts.items():
            found |= {f"{prefix}/{name}": tensor for name, tensor in part.tensors().items()}
        return found

    @classmethod
    def of(cls, tensors: Tensors, options: HarvestOptions) -> Self:
        """A tally that :meth:`tensors` gave, to go on with.

        Raises:
            ValueError: for tensors that none can have given.
        """
        count = len(tensors["firings"])
        tally = cls(count, options, text=any(name.startswith("on/") for name in tensors))
        tally.sums.add(0, torch.zeros(2, count, dtype=torch.double))  # for its width
        check_like(tally.tensors(), tensors)
        check_lengths(*(tensors[name] for name in COUNTS))
        for name in COUNTS:
            setattr(tally, name, tensors[name])
        tally.positions = int(tensors["positions"])
        tally.sums = TreeSum.of(within("sums", tensors))
        tally.places = Places.of(within("places", tensors))
        check_below(tally.places.components, count)
        tally.tokens = {side: TokenCounts.of(count, within(side, tensors)) for side in tally.tokens}
        return tally
