"""Components of two runs side by side: which resembles which."""

from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array
from spd_lightning.runs.analysis_files import FOLDER, LABELS
from spd_lightning.tensorboard_plugin.answers import GoneError, MissingError, Parameters
from spd_lightning.tensorboard_plugin.overview import number_of, row_of
from spd_lightning.tensorboard_plugin.run_files import ARTEFACT, ARTEFACT_CONFIG, DENSITY, RunFiles
from spd_lightning.tensorboard_plugin.table import Table, site_of, table_of
from spd_lightning.tensorboard_plugin.vectors import whole

MOST_MATCHED = 500
"""Components of each run that are matched, those that are important most often: matching takes their number cubed."""
SCORES = ("l0/", "alive/", "ablation/", "task/")


def compared_runs(a: RunFiles, b: RunFiles, _: Parameters) -> dict[str, Any]:
    """Sites of both runs, whether they can be matched, and scores of both."""
    shapes = [run.sites() for run in (a, b)]
    if not all(shapes):
        raise MissingError("both runs need config.json and components.safetensors, which fit writes when it ends")
    sites = [
        {
            "site": site,
            "counts": [shapes[0][site][0], shapes[1][site][0]],
            "matched": shapes[0][site][1:] == shapes[1][site][1:],
        }
        for site in shapes[0]
        if site in shapes[1]
    ]
    scores = [run.record().scores for run in (a, b)]
    shared = [name for name in scores[0] if name in scores[1] and name.startswith(SCORES)]
    return {
        "sites": sites,
        "only": [[site for site in shapes[one] if site not in shapes[1 - one]] for one in (0, 1)],
        "scores": [{"name": name, "a": scores[0][name], "b": scores[1][name]} for name in shared[:500]],
    }


def compared_pairs(a: RunFiles, b: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """Live components of ``site`` in both runs, matched one to one so that the sum of their cosines is largest.

    The cosine is that between the rank-one matrices, ``cos(V_a, V_b) cos(U_a, U_b)``; 1 is the same up to length. Where
    one run has more, what is left over is listed apart, with the best cosine that it has to anything of the other.
    """
    site = parameters.text("site")
    names = (ARTEFACT, ARTEFACT_CONFIG, f"{FOLDER}/{DENSITY}", f"{FOLDER}/{LABELS}")
    paths = [run.folder / name for run in (a, b) for name in names]
    found: dict[str, Any] = a.cache.of(
        ("pairs", site), paths, lambda: _pairs(a, b, site), lambda found: 2000 * len(found["pairs"])
    )
    return found


def _pairs(a: RunFiles, b: RunFiles, site: str) -> dict[str, Any]:
    tables = [table_of(run) for run in (a, b)]
    alive = [_alive(table, site) for table in tables]
    (reads_a, writes_a), (reads_b, writes_b) = (
        tuple(_unit(side[_within(some, side)]) for side in whole(run, site))
        for run, some in zip((a, b), alive, strict=True)
    )
    if reads_a.shape[1] != reads_b.shape[1] or writes_a.shape[1] != writes_b.shape[1]:
        raise UsageError(f"{site!r} has other sizes in the other run: these are not of one network")
    cosines = (reads_a @ reads_b.T) * (writes_a @ writes_b.T)
    rows, columns = _matched(cosines)
    order = np.argsort(-cosines[rows, columns], kind="stable")
    pairs = [
        {
            "cosine": float(cosines[row, column]),
            "a": _component(tables[0], site, int(alive[0][row])),
            "b": _component(tables[1], site, int(alive[1][column])),
        }
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ]
    left = {"a": (0, rows, cosines, len(alive[0])), "b": (1, columns, cosines.T, len(alive[1]))}
    return {
        "site": site,
        "pairs": pairs,
        "mean": float(cosines[rows, columns].mean()) if len(rows) else None,
        "alone": {
            side: [
                {"best": float(table[one].max()), **_component(tables[run], site, int(alive[run][one]))}
                for one in sorted(set(range(count)) - set(taken.tolist()))
                if table.shape[1]
            ]
            for side, (run, taken, table, count) in left.items()
        },
        "alive": [int((table.alive & _of_site(table, site)).sum()) for table in tables],
        "most": MOST_MATCHED,
    }


def _of_site(table: Table, site: str) -> Array:
    return np.isin(table.call, [place for place, call in enumerate(table.calls) if site_of(call) == site])


def _alive(table: Table, site: str) -> Array:
    """Numbers of the site's live components, of at most 500 those that are important most often."""
    kept = np.flatnonzero(table.alive & _of_site(table, site))
    if not len(kept):
        raise GoneError(f"no component of {site!r} is alive")
    often = np.nan_to_num(table.density[kept], nan=0.0)
    strongest = kept[np.argsort(-often, kind="stable")]
    numbers = np.unique(table.component[strongest], return_index=True)
    return np.sort(numbers[0][np.argsort(numbers[1])][:MOST_MATCHED])


def _within(numbers: Array, rows: Array) -> Array:
    if len(numbers) and numbers[-1] >= len(rows):
        raise UsageError("components.safetensors holds fewer components than were counted")
    return numbers


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.nan_to_num(rows / np.maximum(lengths, np.finfo(np.float32).tiny)))


def prepare() -> None:
    """Import what matching needs: it takes about a second, and can be done while somebody looks at other views."""
    import scipy.optimize  # noqa: F401


def _matched(cosines: Array) -> tuple[Array, Array]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-cosines)
    return np.asarray(rows), np.asarray(columns)


def _component(table: Table, site: str, component: int) -> dict[str, Any]:
    call = next(call for call in table.calls if site_of(call) == site)
    number = number_of(table, call, component)
    return {"component": component} if number is None else row_of(table, number)
