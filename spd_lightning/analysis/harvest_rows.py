"""A harvest as rows of plain data, one for every component that is important anywhere."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from spd_lightning.analysis.cofiring import Partner, partners
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.harvest_tally import Harvest
from spd_lightning.analysis.places import NO_TOKEN, Places
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading
from spd_lightning.model.wrapping import site_of

SHOWN_TOKENS, SHOWN_PARTNERS = 5, 5
Decode = Callable[[Sequence[int]], str]


def rows(found: Harvest, decode: Decode | None = None, ends: EndRows | None = None) -> Iterator[dict[str, Any]]:
    """One row of plain data for every component of every site call that is important anywhere.

    Args:
        found: the harvest.
        decode: gives the text of tokens.
        ends: what components read and write at the ends of the network.
    """
    for call, one in found.calls.items():
        tokens = {
            side: counts.best(SHOWN_TOKENS)
            for side, counts in (("on", one.on), ("before", one.before))
            if isinstance(counts, TokenCounts)
        }
        starts = one.places.components.bincount(minlength=len(one.firings)).cumsum(0).tolist()
        alive = one.firings.nonzero()[:, 0].tolist()
        first_of_site = found.firings.number_of(site_of(call), 0)
        together = partners(found.firings, (first_of_site + component for component in alive), SHOWN_PARTNERS)
        for component, others in zip(alive, together, strict=True):
            first = starts[component - 1] if component else 0
            yield {
                "call": call,
                "component": component,
                "firings": int(one.firings[component]),
                "density": _short(one.density[component]),
                "mean_importance": _short(one.mean_importance[component]),
                "positive": _short(one.positive[component]),
                "rms_inner": _short(one.rms_inner[component]),
                "histogram": one.histogram[component].tolist(),
                **{side: list(_tokens(best, component, decode)) for side, best in tokens.items()},
                "together": [_partner(other, found.firings) for other in others],
                **({} if ends is None else ends.of(site_of(call), component)),
                "places": [_place(one.places, index, decode) for index in range(first, starts[component])],
            }


def _tokens(best: Sequence[TokenReading], component: int, decode: Decode | None) -> Iterator[dict[str, Any]]:
    for reading in best:
        token = int(reading.tokens[component])
        if token >= 0:
            shares = {name: _short(getattr(reading, name)[component]) for name in ("precision", "recall", "pmi")}
            yield {"token": token, **({} if decode is None else {"text": decode([token])}), **shares}


def _partner(other: Partner, firings: Firings) -> dict[str, Any]:
    site, component = firings.name_of(other.component)
    return {"site": site, "component": component, "share": _short(other.share), "jaccard": _short(other.jaccard)}


def _place(places: Places, index: int, decode: Decode | None) -> dict[str, Any]:
    found = {name: int(getattr(places, f"{name}s")[index]) for name in ("example", "document", "position")}
    strength = {"inner": _short(places.inner[index]), "importance": _short(places.importance[index])}
    tokens, importances = places.tokens[index].tolist(), places.importances[index].tolist()
    if not tokens:
        return found | strength
    there = [at for at, token in enumerate(tokens) if token != NO_TOKEN]
    shown: dict[str, Any] = {
        "tokens": [tokens[at] for at in there],
        "importances": [_short(importances[at]) for at in there],
        "at": there.index(len(tokens) // 2),
    }
    if decode is not None:
        middle = len(tokens) // 2
        shown["texts"] = [decode([tokens[at]]) for at in there]
        parts = {"left": there[: there.index(middle)], "token": [middle], "right": there[there.index(middle) + 1 :]}
        shown |= {name: decode([tokens[at] for at in part]) for name, part in parts.items()}
    return found | strength | shown


def _short(number: Any) -> float:
    """A number with the digits that anybody reads."""
    return float(f"{float(number):.4g}")
