"""TensorBoard in a real browser, on small runs. Without Chromium tests are left out; where ``CI`` is set they fail."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

from tests.tensorboard_plugin.browser.runs import make_runs
from tests.tensorboard_plugin.browser.tab import Tab

ROOT = Path(__file__).parents[3]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 720}


@pytest.fixture(scope="package")
def chromium() -> Iterator[object]:
    """A browser of the system's."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing = "the Components tab is tested in Chromium, which is not here: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def logdir(tmp_path_factory) -> Path:
    """Runs of every kind."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
        make_runs(folder / "logs")
    return folder / "logs"


@pytest.fixture(scope="package")
def address(logdir) -> Iterator[str]:
    """Where TensorBoard is."""
    command = [sys.executable, "-m", "tests.tensorboard_plugin.browser.server", str(logdir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        assert re.fullmatch(r"http://.*/", line), line
        yield line
        server.kill()


@pytest.fixture(scope="package")
def opened(chromium, address) -> SimpleNamespace:
    """A page with the tab in it, found by a click; what went wrong in it is kept."""
    page = chromium.new_context(viewport=SIZE).new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.get_by_text("Components", exact=True).first.click()
    return SimpleNamespace(tab=Tab(page), faults=faults)


@pytest.fixture
def tab(opened) -> Iterator[Tab]:
    """The tab; nothing may go wrong in it, and nothing of a file's may run."""
    opened.faults.clear()
    yield opened.tab
    assert opened.faults == []
    assert opened.tab.page.evaluate("window.evil") is None
