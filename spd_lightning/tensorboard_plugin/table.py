"""The components of a run as columns: how often each is important, how much, its label, its mechanism."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array, ArrayFile
from spd_lightning.runs.analysis_files import FOLDER, HARVEST, LABELS, MECHANISMS
from spd_lightning.tensorboard_plugin.answers import MissingError, Parameters
from spd_lightning.tensorboard_plugin.run_files import ARTEFACT, ARTEFACT_CONFIG, DENSITY, RunFiles
from spd_lightning.tensorboard_plugin.steps import step_folder

MAX_COMPONENTS = 4_000_000
PAGE, LARGEST_PAGE = 100, 1000
LABEL_LENGTH = 300
"""Characters of a label in the list; the card has all of it."""
NONE = -1
SORTS = ("density", "mean", "firings", "place", "label", "mechanism")


@dataclass(frozen=True)
class Table:
    """Columns with an entry for every component of every site call.

    Attributes:
        calls: the site calls, in the network's order.
        call: which each belongs to, ``[n]``.
        component: its number, ``[n]``.
        density: share of positions on which it is important, ``[n]``; NaN where that is not known.
        mean: mean importance over positions, ``[n]``; NaN without a harvest.
        firings: positions on which it is important, ``[n]``; NaN without a harvest.
        mechanism: number of its group among those of several, ``[n]``; -1 without.
        labels: by site call and component.
        problems: a line for each file that could not be used.
    """

    calls: list[str]
    call: Array
    component: Array
    density: Array
    mean: Array
    firings: Array
    mechanism: Array
    labels: Mapping[tuple[str, int], str]
    problems: list[str]

    @property
    def alive(self) -> Array:
        """What is important anywhere, ``[n]``; what is not known counts as alive."""
        return np.isnan(self.density) | (self.density > 0) | (self.firings > 0)


def site_of(call: str) -> str:
    """The site that a call is of."""
    return call.rpartition("@")[0] or call


def vector_name(site: str, side: str) -> str:
    """The name of a site's read or write vectors, ``"V"`` or ``"U"``, in the artefact."""
    return f"components.{site.replace('.', '-')}.{side}"


def table_of(run: RunFiles, step: int | None = None) -> Table:
    """The table of a run.

    Args:
        run: the run.
        step: take densities of the validation at this step, beside which no harvest stands; ``None`` for the test's.

    Raises:
        MissingError: if nothing says how many components there are.
    """
    return run.cache.of(("table", step), table_paths(run, step), lambda: _Making(run, step).table(), _takes)


def table_paths(run: RunFiles, step: int | None = None) -> list[Path]:
    """The files that a table is made from."""
    analyses = [run.folder / FOLDER / name for name in (DENSITY, HARVEST, LABELS, MECHANISMS)]
    later = [] if step is None else [step_folder(run, step) / DENSITY]
    return [*analyses, run.folder / ARTEFACT, run.folder / ARTEFACT_CONFIG, *later]


def _takes(table: Table) -> int:
    return 40 * len(table.call)


class _Making:
    def __init__(self, run: RunFiles, step: int | None) -> None:
        self._run, self._step, self._problems = run, step, list[str]()

    def table(self) -> Table:
        density = self._tried(self._density, {})
        harvest = self._tried(self._harvest, {}) if self._step is None else {}  # a harvest is of the end of training
        counts = {call: len(column) for call, (column, _, _) in harvest.items()}
        counts |= {call: len(column) for call, column in density.items()}
        for call in [call for call, columns in harvest.items() if len(columns[0]) != counts[call]]:
            del harvest[call]
            self._problems.append(f"density and harvest have other numbers of components of {call}")
        calls = self._in_order(counts)
        if not calls:
            told = f": {self._problems[0]}" if self._problems else ""
            raise MissingError(f"nothing here says which components there are; a test at the end of fit does{told}")
        if sum(counts[call] for call in calls) > MAX_COMPONENTS:
            raise UsageError(f"more than {MAX_COMPONENTS} components")
        unknown = {call: np.full(counts[call], np.nan) for call in calls}
        densities = [density[call] if call in density else harvest.get(call, (unknown[call],))[0] for call in calls]
        columns = {
            name: np.concatenate([harvest[call][at] if call in harvest else unknown[call] for call in calls])
            for at, name in ((1, "mean"), (2, "firings"))
        }
        starts = dict(zip(calls, np.cumsum([0, *(counts[call] for call in calls)]).tolist(), strict=False))
        mechanism = np.full(sum(counts[call] for call in calls), NONE, np.int32)
        for number, place in self._members(starts, counts):
            mechanism[place] = number
        return Table(
            calls,
            np.repeat(np.arange(len(calls), dtype=np.int32), [counts[call] for call in calls]),
            np.concatenate([np.arange(counts[call], dtype=np.int32) for call in calls]),
            np.concatenate(densities),
            **columns,
            mechanism=mechanism,
            labels=self._tried(self._run.labels, {}),
            problems=self._problems,
        )

    def _tried(self, read: Any, without: Any) -> Any:
        try:
            return read()
        except MissingError:
            return without
        except UsageError as error:
            self._problems.append(str(error))
            return without

    def _density(self) -> dict[str, Array]:
        maker = "a test writes it"
        if self._step is None:
            found = self._run.arrays("density", maker, FOLDER, DENSITY)
        else:
            found = self._run.arrays("density", maker, FOLDER, "steps", f"step={self._step}", DENSITY)
        flat = [name for name in found.names if len(found.shape(name)) == 1]
        return {name: np.clip(found.read(name).astype(np.float64), 0, 1) for name in flat}

    def _harvest(self) -> dict[str, tuple[Array, Array, Array]]:
        """Density, mean importance and firings by site call."""
        found, notes = self._run.harvest()
        columns = {}
        for number, call in enumerate(notes["calls"]):
            firings, terms, positions = (
                found.read(f"{number}/{name}").astype(np.float64) for name in ("firings", "sums/terms", "positions")
            )
            if firings.ndim != 1 or terms.shape[1:] != (2, len(firings)) or positions.size != 1:
                raise UsageError("the harvest is damaged: its counts are of different lengths")
            importance = terms[:, 0].sum(0)
            every = max(float(positions.reshape(())), 1.0)
            columns[call] = (np.clip(firings / every, 0, 1), np.clip(importance / every, 0, 1), firings)
        return columns

    def _in_order(self, counts: dict[str, int]) -> list[str]:
        """Site calls in the network's order, as far as it is known; adds the sizes of sites with vectors alone."""
        sites = list(self._tried(self._run.sites, {}))
        artefact: ArrayFile | None = self._tried(self._run.artefact, None)
        called = {site_of(call) for call in counts}
        for site in sites:
            name = vector_name(self._run.ties().get(site, site), "U")
            if site not in called and artefact is not None and name in artefact and artefact.nbytes(name):
                counts[site] = artefact.shape(name)[0]
        places = {site: place for place, site in enumerate(sites)}
        return sorted(counts, key=lambda call: (places.get(site_of(call), len(places)), _natural(call)))

    def _members(self, starts: Mapping[str, int], counts: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        for number, group in enumerate(self._tried(self._run.mechanisms, [])):
            members = [(call, one) for call, some in group["components"].items() for one in some]
            if len(members) > 1:
                yield from (
                    (number, starts[call] + one) for call, one in members if call in starts and 0 <= one < counts[call]
                )


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts ``h.10`` behind ``h.9``."""
    parts = "".join(sign if sign.isdigit() and sign.isascii() else f"\0{sign}\0" for sign in name).split("\0")
    return [(0, int(part[:18])) if part.isdigit() and part.isascii() else (1, part) for part in parts if part]


def chosen(table: Table, run: RunFiles, parameters: Parameters, step: int | None) -> Array:
    """Numbers of the rows that a request asks for, sorted, ``[m]``."""
    call, search = parameters.text("call"), parameters.text("search").strip().casefold()
    alive, mechanism = parameters.choice("alive", ("alive", "dead", "all")), parameters.whole("mechanism")
    sort, order = parameters.choice("sort", SORTS), parameters.choice("order", ("", "up", "down"))
    key = ("chosen", step, call, search, alive, mechanism, sort, order)

    def make() -> Array:
        kept = np.ones(len(table.call), bool)
        if call:
            kept &= table.call == (table.calls.index(call) if call in table.calls else NONE)
        if alive != "all":
            kept &= table.alive if alive == "alive" else ~table.alive
        if mechanism is not None:
            kept &= table.mechanism == mechanism
        if search:
            kept &= _matching(table, search)
        numbers = np.flatnonzero(kept)
        return numbers[_order(table, numbers, sort, order)].astype(np.int32)

    return run.cache.of(key, table_paths(run, step), make, lambda found: 4 * len(found) + 4096)


def _matching(table: Table, search: str) -> Array:
    """Rows whose label holds a text, or whose name does: ``fc1``, ``12``, ``fc1:12``."""
    name, colon, number = search.rpartition(":")
    if not colon:
        name, number = (search, "") if not search.isdigit() else ("", search)
    kept = np.isin(table.call, [n for n, call in enumerate(table.calls) if name in call.casefold()])
    if number.isascii() and number.isdigit():
        kept &= table.component == min(int(number[:12]), 2**31 - 1)
    elif number:
        kept[:] = False
    starts = {call: int(np.searchsorted(table.call, place)) for place, call in enumerate(table.calls)}
    for (call, component), label in table.labels.items():
        if call in starts and search in label.casefold():
            place = starts[call] + component
            if 0 <= place < len(kept) and table.component[place] == component:
                kept[place] = True
    return kept


def _order(table: Table, numbers: Array, sort: str, order: str) -> Array:
    """How to sort rows; what has no value comes last either way."""
    if sort == "place":
        return np.arange(len(numbers))[:: -1 if order == "down" else 1]
    if sort == "label":
        names = [table.labels.get((table.calls[table.call[n]], int(table.component[n])), "") for n in numbers.tolist()]
        ranks = {name: rank for rank, name in enumerate(sorted(set(names), key=str.casefold))}
        values = np.array([ranks[name] if name else np.nan for name in names], float)
    else:
        values = getattr(table, sort)[numbers].astype(float)
        if sort == "mechanism":
            values[values == NONE] = np.nan
    falls = order == "down" or (not order and sort in ("density", "mean", "firings"))
    return np.argsort(-values if falls else values, kind="stable")
