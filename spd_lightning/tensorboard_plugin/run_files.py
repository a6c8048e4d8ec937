"""The files of one run directory: looked up, checked, and kept while they do not change."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import ArrayFile
from spd_lightning.files.whole import is_file
from spd_lightning.report.reading import inside, read_run, with_floats
from spd_lightning.runs.analysis_files import (
    FOLDER,
    HARVEST,
    INTRUDERS,
    INTRUDERS_SHAPE,
    LABELS,
    LABELS_SHAPE,
    MECHANISMS,
    MECHANISMS_SHAPE,
    ROWS,
    fits,
    read_json,
)
from spd_lightning.runs.record import CONFIG_NAME, METRICS_NAME, RunRecord
from spd_lightning.tensorboard_plugin.answers import GoneError, MissingError
from spd_lightning.tensorboard_plugin.cache import Cache
from spd_lightning.tensorboard_plugin.row_index import RowIndex

T = TypeVar("T")
MAX_JSON = 64 * 2**20
"""Bytes of a JSON file that are read."""
MAX_CONFIG = 2**20
"""Bytes of ``config.yaml`` and ``config.json`` that are read."""
MAX_LISTED = 500
"""Graphs or circuits of a run that are listed."""
JSON_TAKES = 6
"""Times the size of a file that its content takes in memory, about."""
ARTEFACT, ARTEFACT_CONFIG = "components.safetensors", "config.json"
DENSITY, IMPORTANCES, ABLATIONS = "density.safetensors", "importances.safetensors", "ablations.safetensors"
SITES_SHAPE: Mapping[str, Any] = {"sites": {}, "ties": {}}


@dataclass(frozen=True)
class RunFiles:
    """One run directory. Paths are made of names of ours and of names found in it, never of what a request says.

    Attributes:
        id: its name in requests.
        folder: the directory.
        cache: keeps what was read.
    """

    id: str
    folder: Path
    cache: Cache

    def path(self, *names: str) -> Path:
        """A file of the run.

        Raises:
            UsageError: if it is a link that leads out of the run directory.
        """
        path = self.folder.joinpath(*names)
        try:
            leads_out = not inside(path, self.folder)
        except (OSError, RuntimeError):  # a link to itself
            leads_out = True
        if leads_out:
            raise UsageError(f"{'/'.join(names)} is a link that leads out of the run directory; copy the file there")
        return path

    def has(self, *names: str) -> bool:
        """Whether there is a file of that name."""
        return is_file(self.folder.joinpath(*names))

    def record(self) -> RunRecord:
        """Config and scores; a record of state ``"damaged"`` for files that are none or too large; never raises."""
        names = (CONFIG_NAME, METRICS_NAME)
        paths = [self.folder / name for name in names]

        def read() -> RunRecord:
            for path, most in zip(paths, (MAX_CONFIG, MAX_JSON), strict=True):
                if is_file(path) and path.stat().st_size > most:
                    return RunRecord(self.folder, "damaged", f"{path.name} is larger than {most} bytes")
            return with_floats(read_run(self.folder))

        return self.cache.of("record", paths, read, lambda _: JSON_TAKES * _size(*paths))

    def arrays(self, what: str, maker: str, *names: str) -> ArrayFile:
        """The header of a safetensors file.

        Args:
            what: what it is.
            maker: what makes it, for the message.
            names: the path inside the run.

        Raises:
            MissingError: if there is none.
            UsageError: if it is damaged or leads out.
        """
        path = self.path(*names)
        if not is_file(path):
            raise MissingError(f"no {what} here; {maker}")
        return self.cache.of(
            "arrays", [path], lambda: ArrayFile(path, what), lambda found: 600 * (1 + len(found.names))
        )

    def artefact(self) -> ArrayFile:
        """Read and write vectors, and all else that the run exported."""
        return self.arrays("components", "fit writes components.safetensors when it ends", ARTEFACT)

    def sites(self) -> dict[str, tuple[int, int, int]]:
        """``C``, ``d_in`` and ``d_out`` by site, as ``config.json`` declares them; empty without one."""
        sites = self._declared().get("sites", {})
        shape = dict.fromkeys(("C", "d_in", "d_out"), int)
        if not all(fits(one, shape) and one.keys() >= shape.keys() for one in sites.values()):
            raise UsageError(f"{ARTEFACT_CONFIG} names its sites wrongly")
        return {site: (one["C"], one["d_in"], one["d_out"]) for site, one in sites.items()}

    def ties(self) -> dict[str, str]:
        """Sites whose components are another's, and that other."""
        ties = self._declared().get("ties", {})
        return {site: source for site, source in ties.items() if isinstance(source, str)}

    def _declared(self) -> dict[str, Any]:
        path = self.path(ARTEFACT_CONFIG)
        if not is_file(path):
            return {}
        found = self.cache.of(
            "config", [path], lambda: self._json(path, MAX_CONFIG), lambda _: JSON_TAKES * _size(path)
        )
        if not fits(found, SITES_SHAPE):
            raise UsageError(f"{ARTEFACT_CONFIG} names its sites wrongly")
        return found

    def harvest(self) -> tuple[ArrayFile, dict[str, Any]]:
        """Counts of the harvest, and what it notes: ``calls`` in the order of its numbers.

        Raises:
            UsageError: if it is damaged.
        """
        found = self.arrays("harvest", "python -m spd_lightning.analysis harvest makes one", FOLDER, HARVEST)

        def read() -> dict[str, Any]:
            try:
                notes = json.loads(found.notes["harvest"])
            except (KeyError, TypeError, ValueError, RecursionError):
                notes = None
            if not isinstance(notes, dict) or not fits(notes.get("calls"), [str]):
                raise UsageError(f"{HARVEST} is damaged, or no harvest that this version reads")
            return notes

        return found, self.cache.of("harvest notes", [found.path], read)

    def rows(self) -> RowIndex:
        """Where the row of each component begins in the harvest's rows."""
        path = self.path(FOLDER, ROWS)
        if not is_file(path):
            raise MissingError("no harvest here; python -m spd_lightning.analysis harvest makes one")
        return self.cache.of("rows", [path], lambda: RowIndex(path), lambda found: 200 * len(found))

    def labels(self) -> dict[tuple[str, int], str]:
        """Labels by site call and component; empty where there are none."""

        def by_component(content: Mapping[str, Any]) -> dict[tuple[str, int], str]:
            whole = (one for one in content["labels"] if one.keys() >= {"call", "component", "label"})
            return {(one["call"], one["component"]): one["label"] for one in whole}

        return self._analysis(LABELS, LABELS_SHAPE, "label", by_component, {})

    def mechanisms(self) -> list[dict[str, Any]]:
        """Groups of components as ``cluster`` wrote them, each with ``share``; empty where there are none."""
        return self._analysis(MECHANISMS, MECHANISMS_SHAPE, "cluster", _groups, [])

    def intruders(self) -> dict[str, Any]:
        """The intruder test; empty where there is none."""
        return self._analysis(INTRUDERS, INTRUDERS_SHAPE, "label --intruder", dict, {})

    def _analysis(
        self, name: str, shape: Mapping[str, Any], maker: str, form: Callable[[dict[str, Any]], T], without: T
    ) -> T:
        path = self.path(FOLDER, name)
        if not is_file(path):
            return without

        def read() -> T:
            _check_size(path, MAX_JSON)
            return form(read_json(path, shape, maker))

        return self.cache.of(name, [path], read, lambda _: JSON_TAKES * _size(path))

    def listed(self, kind: str) -> list[str]:
        """Names of the files of a kind of analysis, ``"graphs"`` or ``"circuits"``, that have arrays and notes."""
        folder = self.folder / FOLDER / kind
        try:
            found = {path.name for path in folder.iterdir()} if inside(folder, self.folder) else set()
        except (OSError, RuntimeError):
            return []
        names = sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))
        return [name for name in names if f"{name}.safetensors" in found][:MAX_LISTED]

    def check_listed(self, kind: str, name: str) -> None:
        """Raise a :class:`GoneError` if there is no graph, or no circuits, of that name."""
        if name not in self.listed(kind):
            raise GoneError(f"{self.id!r} has no {name!r} among its {kind}")

    def pair(self, kind: str, name: str) -> tuple[dict[str, Any], ArrayFile]:
        """Notes and arrays of a graph or of circuits.

        Raises:
            GoneError: if none of that name is there.
        """
        self.check_listed(kind, name)
        arrays = self.arrays(kind, "", FOLDER, kind, f"{name}.safetensors")
        path = self.path(FOLDER, kind, f"{name}.json")
        read, weight = partial(self._json, path, MAX_JSON), JSON_TAKES * _size(path)
        return self.cache.of("json", [path], read, lambda _: weight), arrays

    def _json(self, path: Path, most: int) -> dict[str, Any]:
        _check_size(path, most)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise UsageError(f"{path.name} is damaged")
        return content


def _groups(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    units = max(content["settings"].get("n_units", 1), 1)
    groups = []
    for group in content["groups"]:
        whole = group.keys() >= {"firings", "coherence", "components"}
        if not whole or not all(fits(numbers, [int]) for numbers in group["components"].values()):
            raise UsageError(f"{MECHANISMS} is damaged; move it away and cluster anew")
        groups.append({**group, "share": group["firings"] / units})
    return groups


def _check_size(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        raise UsageError(f"{path.name} is larger than the {most} bytes that the tab reads")


def _size(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths if is_file(path))
