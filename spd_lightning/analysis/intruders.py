"""The intruder test: do a component's windows have something in common that others can see?"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.labelling import Row, window_of
from spd_lightning.functional import keyed_generator, wilson_interval
from spd_lightning.model.wrapping import site_of

OWN = 4
"""Windows of the component; one more is the intruder."""
CHANCE = 1 / (OWN + 1)
SIMILAR, APART = 2.0, 0.1
"""Largest ratio of two densities that match, and largest Jaccard index of the firings of the two components."""
NEAR = {0: 3.0, 1: 1.0, -1: 1.0}
"""What a token counts at the place and beside it; others within five tokens count a quarter."""


@dataclass(frozen=True)
class Trial:
    """Five windows, one of which is of another component.

    Attributes:
        call: the site call.
        component: whose windows four of them are.
        other: the component that the fifth is of.
        odd: its number, from 0.
        places: the windows, as the harvest has them.
    """

    call: str
    component: int
    other: int
    odd: int
    places: list[Mapping[str, Any]]

    @property
    def windows(self) -> list[str]:
        """The windows as text."""
        return list(map(window_of, self.places))


class Judge(Protocol):
    """Finds the window that does not belong.

    Attributes:
        name: what it is, kept with the score.
    """

    name: str

    def odd_one(self, trial: Trial) -> int:
        """The number of a window, from 0; of the trial, only its windows are looked at.

        Raises:
            UsageError: if there is no answer to be had.
        """
        ...


@dataclass(frozen=True)
class Score:
    """How many answers were right.

    Attributes:
        right: right ones.
        count: all.
        share: right ones among all.
        low: lower end of the 95 % confidence interval of the share (Wilson).
        high: its upper end.
    """

    right: int
    count: int
    share: float
    low: float
    high: float


def score(right: int, count: int) -> Score:
    """The share of right answers with its interval.

    Args:
        right: number of right ones.
        count: number of all, at least 1.
    """
    return Score(right, count, right / count, *wilson_interval(right, count))


def trials(rows: Sequence[Row], firings: Firings, count: int, seed: int) -> Iterator[Trial]:
    """Draw components, windows of theirs and intruders.

    The intruder is one of the strongest windows of another component of the same site call that is important about as
    often, at most twice or half, and seldom together with the first; it is from a document that none of the first one's
    kept windows are from. Components without four windows or without a match are passed over.

    Args:
        rows: the harvest.
        firings: which components are important together.
        count: how many trials at most, each of another component.
        seed: of the draws.
    """
    readable = [row for row in rows if sum(bool(window_of(place)) for place in row["places"]) >= OWN]
    generator = keyed_generator(seed, "intruders")
    for index in torch.randperm(len(readable), generator=generator).tolist():
        if count <= 0:
            return
        row = readable[index]
        found = _intruder(row, readable, firings, generator)
        if found is None:
            continue
        other, intruder = found
        own = [row["places"][at] for at in _drawn([bool(window_of(p)) for p in row["places"]], OWN, generator)]
        odd = int(torch.randint(OWN + 1, (1,), generator=generator))
        yield Trial(row["call"], row["component"], other, odd, [*own[:odd], intruder, *own[odd:]])
        count -= 1


def _drawn(allowed: Sequence[bool], count: int, generator: torch.Generator) -> list[int]:
    places = torch.tensor(allowed).nonzero()[:, 0]
    chosen: list[int] = places[torch.randperm(len(places), generator=generator)[:count]].tolist()
    return chosen


def _intruder(
    row: Row, rows: Iterable[Row], firings: Firings, generator: torch.Generator
) -> tuple[int, Mapping[str, Any]] | None:
    """The component and a window of it."""
    site = site_of(row["call"])
    number = firings.number_of(site, row["component"])
    together, often = firings.together(number), firings.often()
    known = {place["document"] for place in row["places"]}
    for _, component, other in _alike(row, rows):
        theirs = firings.number_of(site, component)
        both = int(together[theirs])
        if both > APART * int(often[number] + often[theirs] - both):
            continue
        windows = [place for place in other["places"] if place["document"] not in known and window_of(place)]
        if windows:
            return component, windows[int(torch.randint(len(windows), (1,), generator=generator))]
    return None


def _alike(row: Row, rows: Iterable[Row]) -> list[tuple[float, int, Row]]:
    """Other components of the call whose densities match, the closest first: the ratio's logarithm, number, row."""
    found = []
    for other in rows:
        if other["call"] == row["call"] and other["component"] != row["component"]:
            ratio = abs(math.log(max(other["density"], 1e-12) / max(row["density"], 1e-12)))
            if ratio <= math.log(SIMILAR):
                found.append((ratio, other["component"], other))
    return sorted(found, key=lambda match: match[:2])


class TokenJudge:
    """Takes the window that shares the fewest tokens with the others; no model reads anything (ours).

    A shared token counts the more the rarer it is among all windows of the harvest, most at the place itself.
    Similarity is the cosine. Of equally unlike windows one is drawn.

    Args:
        rows: the harvest, for how rare tokens are.
    """

    name = "shared tokens"

    def __init__(self, rows: Iterable[Row]) -> None:
        self._counts = Counter(token for row in rows for place in row["places"] for token in place.get("tokens", ()))
        self._total = max(sum(self._counts.values()), 1)

    def odd_one(self, trial: Trial) -> int:
        """See :class:`Judge`."""
        vectors = [self._vector(place) for place in trial.places]
        likeness = [sum(_cosine(vector, other) for other in vectors if other is not vector) for vector in vectors]
        unlike = [index for index, value in enumerate(likeness) if value <= min(likeness) + 1e-9]
        drawn = keyed_generator("shared tokens", str([place["tokens"] for place in trial.places]))
        return unlike[int(torch.randint(len(unlike), (1,), generator=drawn))]

    def _vector(self, place: Mapping[str, Any]) -> dict[tuple[int, int], float]:
        """Weights of tokens: by side at the place and beside it, by the token alone further away."""
        vector: dict[tuple[int, int], float] = {}
        for index, token in enumerate(place["tokens"]):
            offset = index - place["at"]
            rare = math.log(self._total / max(self._counts[token], 1))
            if offset in NEAR:
                vector[offset, token] = NEAR[offset] * rare
            elif abs(offset) <= 5:
                vector[2, token] = 0.25 * rare
        return vector


def _cosine(one: Mapping[Any, float], other: Mapping[Any, float]) -> float:
    dot = sum(value * other.get(key, 0.0) for key, value in one.items())
    norms = math.sqrt(sum(value**2 for value in one.values()) * sum(value**2 for value in other.values()))
    return dot / norms if norms else 0.0
