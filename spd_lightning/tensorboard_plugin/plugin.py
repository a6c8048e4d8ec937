"""The Components tab of TensorBoard: what runs have written, in a browser.

It never runs a model. Below ``/data/plugin/spd_components`` are

==============  ==============================================================================================
``runs``        run directories below the log directory, each with a mark that changes when its files do
``run``         scores, verdict, site calls, and which analyses there are (``run``)
``components``  a page of the list of components (:func:`~spd_lightning.tensorboard_plugin.overview.components_page`)
``map``         density and mean importance of every component, typed arrays
``component``   the card of a component (``call``, ``component``)
``vectors``     its read and write vector, typed arrays
``mechanisms``  groups of components (``first``, ``count``, ``sort``)
``mechanism``   one of them (``number``)
``graphs``      attribution graphs of the run; ``graph`` is one of them (``name``)
``circuits``    circuits of the run; ``circuit`` is one of them (``name``)
``heatmaps``    which importances there are (``step``); ``heatmap`` are those of a site call, typed arrays
``compare``     components of two runs, matched (``a``, ``b``); ``pairs`` are those of a site (``site``)
``static/*``    the page
==============  ==============================================================================================

All but the first and the last take ``run``, as ``runs`` names it. Answers are JSON, or typed arrays
(:class:`~spd_lightning.tensorboard_plugin.answers.Arrays`); what cannot be shown is ``{"error": line, "kind": kind}``,
where kind is ``missing`` (an analysis was not made), ``gone`` (no such thing, or not any more), ``damaged`` or
``wrong``.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import signature
from spd_lightning.report.reading import run_name
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.runs.record import CONFIG_NAME, METRICS_NAME
from spd_lightning.tensorboard_plugin.answers import GoneError, Parameters, answering
from spd_lightning.tensorboard_plugin.cache import Cache
from spd_lightning.tensorboard_plugin.cards import component_card
from spd_lightning.tensorboard_plugin.compare import compared_pairs, compared_runs, prepare
from spd_lightning.tensorboard_plugin.discovery import Discovery
from spd_lightning.tensorboard_plugin.graphs import circuit, circuits, graph, graphs
from spd_lightning.tensorboard_plugin.heatmaps import heat_map, heat_maps
from spd_lightning.tensorboard_plugin.mechanisms import mechanism, mechanisms
from spd_lightning.tensorboard_plugin.overview import component_map, components_page, run_summary
from spd_lightning.tensorboard_plugin.run_files import ARTEFACT, RunFiles
from spd_lightning.tensorboard_plugin.vectors import vectors

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_WATCHED = (CONFIG_NAME, METRICS_NAME, ARTEFACT, FOLDER, f"{FOLDER}/steps", f"{FOLDER}/graphs", f"{FOLDER}/circuits")
"""Files and folders whose times tell that a run went on: analyses are renamed into place, which the folder's shows."""
_OF_A_RUN: Mapping[str, Callable[[RunFiles, Parameters], Any]] = {
    "run": lambda run, _: _looked_at(run),
    "components": components_page,
    "map": component_map,
    "component": component_card,
    "vectors": vectors,
    "mechanisms": mechanisms,
    "mechanism": mechanism,
    "graphs": lambda run, _: graphs(run),
    "graph": graph,
    "circuits": lambda run, _: circuits(run),
    "circuit": circuit,
    "heatmaps": heat_maps,
    "heatmap": heat_map,
}


class ComponentsPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """TensorBoard's tab of components.

    Args:
        context: what TensorBoard tells its plugins; the log directory is used.
    """

    plugin_name = "spd_components"

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._discovery, self._cache = Discovery(_roots(context)), Cache()
        self._pages = {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}

    def get_plugin_apps(self) -> dict[str, Any]:
        """WSGI applications by path."""
        of_a_run = {f"/{name}": answering(self._with_run(serve)) for name, serve in _OF_A_RUN.items()}
        pairs = {"/compare": compared_runs, "/pairs": compared_pairs}
        of_two = {path: answering(self._with_two(serve)) for path, serve in pairs.items()}
        page = wrappers.Request.application(self._page)
        return {"/index.js": page, "/static/*": page, "/runs": answering(self._runs), **of_a_run, **of_two}

    def is_active(self) -> bool:
        """Whether there is a run directory."""
        return self._discovery.is_any()

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Where the page begins."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Components", disable_reload=False)

    def _runs(self, _: Parameters) -> dict[str, Any]:
        found = self._discovery()
        listed = [{"id": run, "name": run_name(path), "mark": _mark(path)} for run, path in found.runs.items()]
        return {"runs": listed, "cut": found.is_cut}

    def _run(self, parameters: Parameters, name: str) -> RunFiles:
        run = parameters.text(name)
        folder = self._discovery().runs.get(run)
        if folder is None or not folder.is_dir():
            raise GoneError(f"there is no run {run!r} below the log directory (any more)")
        return RunFiles(run, folder, self._cache)

    def _with_run(self, serve: Callable[[RunFiles, Parameters], Any]) -> Callable[[Parameters], Any]:
        return lambda parameters: serve(self._run(parameters, "run"), parameters)

    def _with_two(self, serve: Callable[[RunFiles, RunFiles, Parameters], Any]) -> Callable[[Parameters], Any]:
        return lambda parameters: serve(self._run(parameters, "a"), self._run(parameters, "b"), parameters)

    def _page(self, request: wrappers.Request) -> wrappers.Response:
        """A file of the page; none but those that were there at the start have an address."""
        path = self._pages.get(request.path.rpartition("/")[2])
        if path is None:
            missing: wrappers.Response = http_util.Respond(request, "not found", "text/plain", code=404)
            return missing
        found: wrappers.Response = http_util.Respond(request, path.read_bytes(), _TYPES[path.suffix])
        return found


def _looked_at(run: RunFiles) -> dict[str, Any]:
    """A run's summary; what cards and comparisons will need is read meanwhile."""
    found = run_summary(run)
    threading.Thread(target=_prepare, args=[run], daemon=True).start()
    return found


def _prepare(run: RunFiles) -> None:
    with suppress(UsageError):  # who asks for a card is told
        run.rows()
    prepare()


def _roots(context: base_plugin.TBContext) -> dict[str, Path]:
    """Log directories by name; those of ``--logdir_spec`` may have one."""
    if context.logdir:
        return {"": Path(context.logdir).expanduser()}
    spec = getattr(context.flags, "logdir_spec", "") or ""
    return dict(_named(part) for part in spec.split(",") if part.strip())


def _named(part: str) -> tuple[str, Path]:
    name, colon, path = part.strip().partition(":")
    if not colon or "/" in name:
        return part.strip().replace("/", "_"), Path(part.strip()).expanduser()
    return name, Path(path).expanduser()


def _mark(folder: Path) -> str:
    """Changes whenever files of the run do."""
    return ".".join(map(str, _times(folder)))


def _times(folder: Path) -> Iterator[int]:
    for name in _WATCHED:
        found = signature(folder / name)
        yield 0 if found is None else found[0] // 1_000_000
