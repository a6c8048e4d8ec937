"""What a run found, and its components in pages."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.report.reading import mapping, run_name
from spd_lightning.report.rows import ABLATIONS as REGIMES
from spd_lightning.runs.analysis_files import FOLDER, HARVEST, LABELS, MECHANISMS, ROWS
from spd_lightning.runs.findings import ladder, relative
from spd_lightning.runs.record import CONFIG_NAME, METRICS_NAME
from spd_lightning.tensorboard_plugin.answers import Arrays, MissingError, Parameters
from spd_lightning.tensorboard_plugin.run_files import ABLATIONS, DENSITY, IMPORTANCES, RunFiles
from spd_lightning.tensorboard_plugin.steps import steps_of
from spd_lightning.tensorboard_plugin.table import LABEL_LENGTH, LARGEST_PAGE, PAGE, Table, chosen, site_of, table_of

DRAWN = 1_000_000
"""Components of which a map is sent."""


def run_summary(run: RunFiles) -> dict[str, Any]:
    """Scores, verdict, adversary's ladder, site calls with their counts, and which analyses there are.

    ``state`` is that of the run's record, or ``bare`` for components or analyses without a config and scores, such as
    an artefact that somebody shared.
    """
    record, problems = run.record(), list[str]()
    is_bare = not run.has(CONFIG_NAME) and not run.has(METRICS_NAME)
    if record.problem and not is_bare:
        problems.append(record.problem)
    table = _tried(lambda: table_of(run), problems)
    shapes = _tried(run.sites, problems) or {}
    return {
        "id": run.id,
        "name": run_name(run.folder),
        "state": "bare" if is_bare else record.state,
        "steps": record.metrics.get("steps"),
        "seed": record.metrics.get("seed"),
        "totals": _totals(record.scores),
        "distance": str(mapping(record.metrics, "settings").get("AblationCheck.distance", ""))[:40],
        "regimes": _regimes(record.scores),
        "ladder": [{"steps": steps, "share": share} for steps, share in ladder(record.scores)],
        "verdict": [finding._asdict() for finding in record.findings],
        "sites": [] if table is None else _sites(table, record.scores, shapes),
        "validations": {"density": steps_of(run, DENSITY), "importances": steps_of(run, IMPORTANCES)},
        "has": _analyses(run),
        "problems": [*dict.fromkeys([*problems, *(table.problems if table else [])])],
    }


def _tried(read: Any, problems: list[str]) -> Any:
    try:
        return read()
    except MissingError:
        return None
    except UsageError as error:
        problems.append(str(error))
        return None


def _totals(scores: Mapping[str, float]) -> dict[str, float | None]:
    """L0 and live components over all sites."""
    sums = {}
    for kind in ("l0", "alive"):
        values = [value for name, value in scores.items() if name.startswith(f"{kind}/") and value is not None]
        sums[kind] = sum(values) if values else None
    return sums


def _regimes(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Every way of masking: its distance, the same as a share of ablating everything, cross entropy, accuracy."""
    found = []
    for name, words in {"target": "the target itself", **REGIMES}.items():
        one = {
            "distance": scores.get(f"ablation/{name}"),
            "share": None if name == "target" else relative(scores, name),
            "cross_entropy": scores.get(f"task/cross_entropy/{name}"),
            "accuracy": scores.get(f"task/accuracy/{name}"),
        }
        if any(value is not None for value in one.values()):
            found.append({"name": name, "words": words, **one})
    return found


def _sites(table: Table, scores: Mapping[str, float], shapes: Mapping[str, tuple[int, int, int]]) -> list[Any]:
    counts = np.bincount(table.call, minlength=len(table.calls))
    living = np.bincount(table.call, weights=table.alive, minlength=len(table.calls))
    found = []
    for place, call in enumerate(table.calls):
        _, d_in, d_out = shapes.get(site_of(call), (None, None, None))
        sizes = {"count": int(counts[place]), "alive": int(living[place]), "d_in": d_in, "d_out": d_out}
        found.append({"call": call, **sizes, "l0": scores.get(f"l0/{call}")})
    return found


def _analyses(run: RunFiles) -> dict[str, Any]:
    files = {"harvest": HARVEST, "rows": ROWS, "labels": LABELS, "mechanisms": MECHANISMS}
    files |= {"importances": IMPORTANCES, "ablations": ABLATIONS, "density": DENSITY}
    there: dict[str, Any] = {name: run.has(FOLDER, file) for name, file in files.items()}
    return {**there, **{kind: len(run.listed(kind)) for kind in ("graphs", "circuits")}}


def components_page(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """Some rows of the list of components.

    Parameters are ``call``, ``search``, ``alive`` (``alive``, ``dead``, ``all``), ``mechanism``, ``sort``, ``order``
    (``up``, ``down``), ``step``, ``first`` and ``count``.
    """
    step = parameters.whole("step")
    table = table_of(run, step)
    numbers = chosen(table, run, parameters, step)
    first, count = parameters.number("first"), parameters.number("count", PAGE, LARGEST_PAGE)
    shown = numbers[first : first + count]
    return {"total": len(numbers), "first": first, "rows": [row_of(table, number) for number in shown.tolist()]}


def row_of(table: Table, number: int, label_length: int | None = LABEL_LENGTH) -> dict[str, Any]:
    """What the list says of a component."""
    call, component = table.calls[table.call[number]], int(table.component[number])
    label, mechanism = table.labels.get((call, component), ""), int(table.mechanism[number])
    return {
        "call": call,
        "component": component,
        "density": float(table.density[number]),
        "mean": float(table.mean[number]),
        "firings": float(table.firings[number]),
        "alive": bool(table.alive[number]),
        "mechanism": None if mechanism < 0 else mechanism,
        "label": label if label_length is None or len(label) <= label_length else f"{label[:label_length]}…",
    }


def number_of(table: Table, call: str, component: int) -> int | None:
    """The row of a component in the table; ``None`` if there is no such component."""
    if call not in table.calls:
        return None
    first, last = np.searchsorted(table.call, [table.calls.index(call), table.calls.index(call) + 1])
    return int(first) + component if 0 <= component < last - first else None


def component_map(run: RunFiles, parameters: Parameters) -> Arrays:
    """Density and mean importance of every component, and its mechanism, for the picture of the network.

    Parameters are ``step`` and nothing else. Arrays: ``density`` and ``mean``, float32, ``mechanism``, int32, one
    site call after another as ``calls`` and ``counts`` have them; -1 where a number is not known.
    """
    table = table_of(run, parameters.whole("step"))
    if len(table.call) > DRAWN:
        raise UsageError(f"the picture shows at most {DRAWN} components; this run has {len(table.call)}")
    counts = np.bincount(table.call, minlength=len(table.calls))
    numbers = {name: np.nan_to_num(getattr(table, name), nan=-1.0) for name in ("density", "mean")}
    return Arrays(
        {"calls": table.calls, "counts": counts},
        {**{name: column.astype(np.float32) for name, column in numbers.items()}, "mechanism": table.mechanism},
    )
