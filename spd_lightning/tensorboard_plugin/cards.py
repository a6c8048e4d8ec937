"""All that is known of one component."""

from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.tensorboard_plugin.answers import GoneError, MissingError, Parameters, told
from spd_lightning.tensorboard_plugin.heatmaps import most_important
from spd_lightning.tensorboard_plugin.overview import number_of, row_of
from spd_lightning.tensorboard_plugin.run_files import ABLATIONS, RunFiles
from spd_lightning.tensorboard_plugin.table import LABEL_LENGTH, Table, site_of, table_of

SHOWN_WINDOWS, SHOWN_OUTPUTS = 40, 256
LONGEST = 10_000
"""Characters of a label or token that are sent."""


def component_card(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """The card of a component: ``call`` and ``component`` say which.

    Returns:
        The entries of its list row, its neighbours in the site, its row of the harvest (``row``, with ``windows``),
        ``ablation``, ``intruder`` and ``probes``; in the place of a part that cannot be had, ``{"error": line, "kind":
        ...}``.
    """
    call, component = parameters.text("call"), parameters.number("component")
    table = table_of(run)
    number = number_of(table, call, component)
    if number is None:
        raise GoneError(f"{run.id!r} has no component {component} of {call!r}")
    listed = row_of(table, number, None)
    parts = {"row": _harvested, "ablation": _ablation, "intruder": _intruder, "probes": most_important}
    card = {
        **listed,
        "label": listed["label"][:LONGEST],
        "site": site_of(call),
        "neighbours": _neighbours(table, number),
        **{name: or_error(part, run, call, component) for name, part in parts.items()},
    }
    card["partners"] = _labels_of_partners(table, card["row"].get("together", []))
    return card


def _neighbours(table: Table, number: int) -> list[int | None]:
    """Numbers of the live components before and behind one in its site call."""
    first, last = np.searchsorted(table.call, [table.call[number], table.call[number] + 1])
    living = first + np.flatnonzero(table.alive[first:last])
    before, behind = living[living < number], living[living > number]
    found = [some[at] if len(some) else None for some, at in ((before, -1), (behind, 0))]
    return [None if one is None else int(table.component[one]) for one in found]


def or_error(part: Any, *arguments: Any) -> Any:
    """A part of a card, or what takes its place."""
    try:
        return part(*arguments)
    except UsageError as error:
        return told(error)


def _harvested(run: RunFiles, call: str, component: int) -> dict[str, Any]:
    rows = run.rows()
    if (call, component) not in rows:
        raise MissingError("important nowhere in the harvest")
    row = rows.row(call, component)
    windows = [window(place) for place in row["places"][:SHOWN_WINDOWS]]
    kept = ("firings", "positive", "rms_inner", "histogram", "on", "before", "together", "reads", "writes")
    return {**{name: row[name] for name in kept if name in row}, "windows": windows}


def window(place: dict[str, Any]) -> dict[str, Any]:
    """A place where a component is important, with its tokens where there are any."""
    names = ("example", "document", "position", "inner", "importance", "at", "importances")
    shown = {name: place[name] for name in names if name in place}
    texts = place.get("texts") or [str(token) for token in place.get("tokens", [])]
    return {**shown, "texts": [text[:LONGEST] for text in texts]}


def _labels_of_partners(table: Table, together: list[dict[str, Any]]) -> dict[str, str]:
    """Labels of the components that fire together with it, by ``site:component``."""
    keys = [(one["site"], one["component"]) for one in together if one.keys() >= {"site", "component"}]
    return {f"{site}:{component}": table.labels.get((site, component), "")[:LABEL_LENGTH] for site, component in keys}


def _ablation(run: RunFiles, call: str, component: int) -> dict[str, Any]:
    """What ablating it alone changes on the probes: distance, and mean absolute change of the outputs."""
    found = run.arrays("single ablations", "fit and test write them for targets with probes", FOLDER, ABLATIONS)
    change, distance = f"change/{call}", f"distance/{call}"
    if change not in found and distance not in found:
        raise MissingError(f"no single ablations of {call}")
    told: dict[str, Any] = {}
    if distance in found:
        distances = found.read(distance).astype(np.float64).reshape(-1)
        _check_there(component, len(distances))
        if np.isnan(distances[component]):
            raise MissingError("not ablated alone: it is not alive on the probes, or one of too many that are")
        rank = int((distances > distances[component]).sum()) + 1
        told |= {"distance": distances[component], "rank": rank, "of": int((~np.isnan(distances)).sum())}
    if change in found:
        _check_there(component, found.shape(change)[0] if found.shape(change) else 0)
        changes = found.read(change, component, 1).astype(np.float64).reshape(-1)
        most = np.sort(np.argsort(-np.abs(changes), kind="stable")[:SHOWN_OUTPUTS])
        told |= {"outputs": most, "changes": changes[most], "n_outputs": len(changes)}
    return told


def _check_there(component: int, count: int) -> None:
    if component >= count:
        raise MissingError("no single ablation of this component")


def _intruder(run: RunFiles, call: str, component: int) -> dict[str, Any]:
    """Whether the intruder among its windows was found."""
    test = run.intruders()
    for answer in test.get("answers", []):
        if (answer.get("call"), answer.get("component")) == (call, component):
            return {
                "judge": test["judge"],
                "chance": test["chance"],
                "right": answer.get("odd") == answer.get("answer"),
            }
    raise MissingError("not among the components of an intruder test")
