"""How fast the Components tab is on a large run, beside TensorBoard's own scalars.

    python -m benchmarks.components_tab [--folder FOLDER]

Makes a run of 10 000 components, harvested on 1 million positions, serves it with TensorBoard, opens the tab in
Chromium, and asks every route several times. Prints the tables of docs/components-tab.md. Needs the extra dev, and
Chromium.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from playwright.sync_api import sync_playwright
from safetensors.torch import load_file
from torch.utils.tensorboard import SummaryWriter

from benchmarks.large_run import GRAPH, make_large_run
from benchmarks.options import ROOT
from spd_lightning.runs.analysis_files import FOLDER

RUN, TAGS, STEPS, TIMES = "large/version_0", 20, 1000, 15
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY_S = 120
HEAD = (
    "",
    "| route | answer, kB | first, ms | of it processor | again: median, ms | longest | of it processor |",
    "|---|---|---|---|---|---|---|",
)
SERVE = """
import sys, time
from tensorboard import default, program
from spd_lightning.tensorboard_plugin import ComponentsPlugin
plugins = default.get_plugins()
board = program.TensorBoard(plugins=[*plugins, *([] if ComponentsPlugin in plugins else [ComponentsPlugin])])
board.configure(argv=["", "--logdir", sys.argv[1], "--port", "0", "--load_fast", "false"])
print(board.launch(), flush=True)
time.sleep(36000)
"""
"""TensorBoard, with the tab also where the package is installed without its entry point."""


def main() -> None:
    """Make, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the run below this folder, or take it from there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = (given.folder or Path(aside)).resolve()
        if not (folder / RUN / "metrics.json").exists():
            make_large_run(folder / RUN)
            _write_scalars(folder / RUN)
        for line in _measured(folder):
            print(line, flush=True)


def _write_scalars(run: Path) -> None:
    """Curves as a long training leaves them."""
    with SummaryWriter(str(run)) as writer:
        for tag in range(TAGS):
            for step in range(STEPS):
                writer.add_scalar(f"train/loss_{tag}", 1 / (step + 1 + tag), step)


def _measured(folder: Path) -> Iterator[str]:
    """Two servers, so that the routes' first answers are first ones."""
    size = sum(path.stat().st_size for path in (folder / RUN).rglob("*") if path.is_file())
    yield f"The run holds {size / 1e6:.0f} MB."
    with _served(folder) as (_, address):
        _wait_for_scalars(address)
        yield from ("", "| in Chromium | seconds |", "|---|---|")
        for what, seconds in _in_browser(address):
            yield f"| {what} | {seconds:.2f} |"
    with _served(folder) as (server, address):
        _wait_for_scalars(address)
        memory = {"before any question": _resident(server)}
        yield from HEAD
        yield from (_row(server, address, name, path) for name, path in _scalar_routes())
        memory["after those of scalars"] = _resident(server)
        yield from (_row(server, address, name, path) for name, path in _routes(folder / RUN))
        memory |= {"after all of the tab": _resident(server), "the most it was": _resident(server, "VmHWM")}
    yield from ("", "| memory of the server | MB |", "|---|---|")
    yield from (f"| {when} | {taken:.0f} |" for when, taken in memory.items())


@contextmanager
def _served(folder: Path) -> Iterator[tuple[int, str]]:
    """TensorBoard in a process of its own: its number and address."""
    command = [sys.executable, "-c", SERVE, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.pid, server.stdout.readline().strip()
        finally:
            server.kill()


def _resident(server: int, which: str = "VmRSS") -> float:
    """Resident memory of a process, in MB."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{server}/status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


def _wait_for_scalars(address: str) -> None:
    end = time.monotonic() + READY_S
    while not json.loads(_asked(f"{address}data/plugin/scalars/tags")[0]):
        if time.monotonic() > end:
            raise TimeoutError("TensorBoard read no scalars")
        time.sleep(1)


def _asked(link: str) -> tuple[bytes, float]:
    began = time.perf_counter()
    with urlopen(link) as answer:
        content = answer.read()
    return content, 1e3 * (time.perf_counter() - began)


def _busy(server: int) -> float:
    """Milliseconds for which a process has had a processor."""
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _row(server: int, address: str, name: str, path: str) -> str:
    """One route, asked once and then several times: a line of the table."""
    link, began = f"{address}data/plugin/{path}", _busy(server)
    content, first = _asked(link)
    between = _busy(server)
    times = [_asked(link)[1] for _ in range(TIMES)]
    busy = (_busy(server) - between) / TIMES
    told = f"{statistics.median(times):.0f} | {max(times):.0f} | {busy:.1f}"
    return f"| {name} | {len(content) / 1e3:.0f} | {first:.0f} | {between - began:.0f} | {told} |"


def _scalar_routes() -> Iterator[tuple[str, str]]:
    tag = {"run": RUN, "tag": "train/loss_0"}
    yield "TensorBoard's scalars: tags", "scalars/tags"
    yield f"TensorBoard's scalars: a curve of {STEPS}", f"scalars/scalars?{urlencode(tag)}"


def _routes(run: Path) -> Iterator[tuple[str, str]]:
    """Questions that clicks ask, with their names."""

    def path(route: str, **parameters: Any) -> str:
        return f"spd_components/{route}?{urlencode({'run': RUN, **parameters})}"

    call = load_file(run / FOLDER / "density.safetensors").popitem()[0]
    one = {"call": call, "component": 1}
    yield "`runs`", path("runs")
    yield "`run`", path("run")
    yield "`map`", path("map")
    yield "`components`, a page", path("components", first=5000, count=100)
    yield "`components`, sorted by label", path("components", sort="label", count=100)
    yield "`components`, a search", path("components", search="ab", count=100)
    yield "`component`", path("component", **one)
    yield "`vectors`", path("vectors", **one)
    yield "`mechanisms`", path("mechanisms", count=100)
    yield "`mechanism`", path("mechanism", number=1)
    yield "`heatmap`", path("heatmap", call=call)
    yield "`graph`", path("graph", name=GRAPH)


def _in_browser(address: str) -> Iterator[tuple[str, float]]:
    """From a click on the tab to a list of components that can be used; then clicks through the views."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        page.set_default_timeout(1e3 * READY_S)
        page.goto(address)
        tab = page.get_by_text("Components", exact=True).first
        tab.wait_for()
        frame = page.frame_locator("iframe")
        for what in ("the tab, from the click to its list", "the same once more, in a fresh page"):
            began = time.perf_counter()
            tab.click()
            frame.locator(".row:not(.waiting)").first.wait_for()
            yield what, time.perf_counter() - began
            page.goto("about:blank")
            page.goto(address)
            tab.wait_for()
        tab.click()
        frame.locator(".row:not(.waiting)").first.wait_for()
        views = [("Component", ".windows .token"), ("Mechanism", ".detail h2"), ("Graph", ".stage canvas")]
        for view, sign in [*views, ("Heat map", ".stage canvas")]:
            began = time.perf_counter()
            frame.locator("header nav a", has_text=view).first.click()
            frame.locator(f"main[data-view] {sign}").first.wait_for()
            yield f"a click on {view}", time.perf_counter() - began


if __name__ == "__main__":
    main()
