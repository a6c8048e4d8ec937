"""Groups of components: who belongs to them, where they act, what they do together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.runs.analysis_files import FOLDER, ROWS
from spd_lightning.tensorboard_plugin.answers import GoneError, MissingError, Parameters
from spd_lightning.tensorboard_plugin.cards import LONGEST, or_error, window
from spd_lightning.tensorboard_plugin.overview import number_of, row_of
from spd_lightning.tensorboard_plugin.run_files import RunFiles
from spd_lightning.tensorboard_plugin.table import LARGEST_PAGE, PAGE, Table, table_of, table_paths

MOST_MEMBERS = 2000
"""Members that are listed."""
READ_MEMBERS = 16
"""Members, those that fire most, whose windows and tokens are put together."""
SHOWN = 12
SORTS = ("share", "size", "coherence")


def mechanisms(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """A page of the groups of several components: ``first``, ``count``, ``sort`` (``share``, ``size``, ``coherence``).

    Each has its number, size, members by site call, share of positions, coherence, and the labels of those of its first
    members that have one.
    """
    sort = parameters.choice("sort", SORTS)
    listed = run.cache.of(
        ("mechanisms", sort), table_paths(run), lambda: _sorted(run, sort), lambda all_: 900 * len(all_)
    )
    first = parameters.number("first")
    return {
        "total": len(listed),
        "first": first,
        "rows": listed[first : first + parameters.number("count", PAGE, LARGEST_PAGE)],
    }


def _sorted(run: RunFiles, sort: str) -> list[dict[str, Any]]:
    labels = run.labels()
    return sorted((_listed(*one, labels) for one in _several(run).items()), key=lambda one: -one[sort])


def _several(run: RunFiles) -> dict[int, dict[str, Any]]:
    groups = run.mechanisms()
    if not groups:
        raise MissingError("no mechanisms here; python -m spd_lightning.analysis cluster makes them from a harvest")
    return {n: group for n, group in enumerate(groups) if sum(map(len, group["components"].values())) > 1}


def _members(group: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(call, component) for call, some in group["components"].items() for component in some]


def _listed(number: int, group: Mapping[str, Any], labels: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    members = _members(group)
    said = [labels[member][:80] for member in members[:200] if labels.get(member)]
    return {
        "number": number,
        "size": len(members),
        "sites": {call: len(some) for call, some in group["components"].items()},
        "share": group["share"],
        "coherence": group["coherence"],
        "labels": said[:4],
    }


def mechanism(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """One group, ``number``: its members, those that fire most first, where it acts, and what it does together."""
    number = parameters.number("number")
    paths = [*table_paths(run), run.folder / FOLDER / ROWS]
    return run.cache.of(
        ("mechanism", number), paths, lambda: _one(run, number), lambda one: 500 * len(one["members"]) + 2**18
    )


def _one(run: RunFiles, number: int) -> dict[str, Any]:
    groups = _several(run)
    if number not in groups:
        raise GoneError(f"{run.id!r} has no mechanism {number} of several components")
    group, table = groups[number], table_of(run)
    places = [place for member in _members(group) if (place := number_of(table, *member)) is not None]
    strength = np.nan_to_num(np.where(np.isnan(table.firings), table.density, table.firings)[places], nan=-1.0)
    places = [places[at] for at in np.argsort(-strength, kind="stable")[:MOST_MEMBERS].tolist()]
    return {
        **_listed(number, group, table.labels),
        "members": [row_of(table, place) for place in places],
        "together": or_error(_together, run, table, places[:READ_MEMBERS]),
    }


def _together(run: RunFiles, table: Table, places: list[int]) -> dict[str, Any]:
    rows, keys = run.rows(), [(table.calls[table.call[place]], int(table.component[place])) for place in places]
    found = [rows.row(*key) for key in keys if key in rows]
    if not found:
        raise UsageError("none of its members is in the harvest's rows")
    sides = {side: _tokens(row.get(side, []) for row in found) for side in ("on", "before")}
    ends = {side: _added(row.get(side, []) for row in found) for side in ("reads", "writes")}
    return {"read": len(found), **sides, **ends, "windows": _windows(found)}


def _tokens(lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Tokens that most members fire on, by how many name them, then by how surely."""
    named: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for some in lists:
        for one in some:
            if one.keys() >= {"token", "precision"}:
                named[one["token"]].append(one)
    best = sorted(named.items(), key=lambda item: (-len(item[1]), -sum(one["precision"] for one in item[1])))
    return [
        {
            "token": token,
            "text": str(some[0].get("text", token))[:LONGEST],
            "members": len(some),
            "precision": sum(one["precision"] for one in some) / len(some),
        }
        for token, some in best[:SHOWN]
    ]


def _added(lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Weights of inputs or outputs, added up over members."""
    sums: dict[str, float] = defaultdict(float)
    for some in lists:
        for one in some:
            if one.keys() >= {"name", "weight"}:
                sums[one["name"][:LONGEST]] += one["weight"]
    best = sorted(sums.items(), key=lambda item: -abs(item[1]))[:SHOWN]
    return [{"name": name, "weight": weight} for name, weight in best]


def _windows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Places where most members are important; the importance of a token is the largest of any member's."""
    shared: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for place in row["places"]:
            shared[place.get("example", place["document"]), place.get("position", 0)].append(place)
    best = sorted(shared.values(), key=lambda some: (-len(some), -max(one.get("importance", 0.0) for one in some)))
    return [_merged(some) for some in best[:SHOWN]]


def _merged(places: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {**window(places[0]), "members": len(places)}
    lists = [place["importances"] for place in places if len(place.get("importances", [])) == len(shown["texts"])]
    return {**shown, "importances": [max(values) for values in zip(*lists, strict=True)]} if lists else shown
