"""Runs that come, change and go while TensorBoard runs; and what it costs to look for them."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tensorboard.plugins import base_plugin

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import ArrayFile
from spd_lightning.tensorboard_plugin import ComponentsPlugin, discovery
from spd_lightning.tensorboard_plugin.cache import Cache
from spd_lightning.tensorboard_plugin.discovery import Discovery
from tests.tensorboard_plugin.client import Tab
from tests.tensorboard_plugin.made_runs import (
    CALLS,
    write_artefact,
    write_harvest,
    write_pictures,
    write_run,
    write_scores,
)


def later(path):
    """Give a file a time that it did not have."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))


def test_a_run_is_found_as_it_grows_and_goes_when_it_is_deleted(tmp_path):
    tab = Tab(tmp_path)
    assert tab.runs() == []
    assert not tab.plugin.is_active()

    run = tmp_path / "exp" / "version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("model: {}\n")
    assert tab.runs() == ["exp/version_0"]
    assert tab.plugin.is_active()
    started = tab.ask("run", run="exp/version_0")
    assert (started["state"], started["sites"], started["problems"]) == ("started", [], [])
    assert tab.ask("components", run="exp/version_0")["kind"] == "missing"

    write_pictures(run)
    assert len(tab.ask("run", run="exp/version_0")["sites"]) == 2
    write_scores(run)
    write_artefact(run)
    write_harvest(run)
    done = tab.ask("run", run="exp/version_0")
    assert (done["state"], done["sites"][0]["d_in"], done["has"]["harvest"]) == ("finished", 4, True)

    run.rename(tmp_path.parent / f"{tmp_path.name}_gone")
    assert tab.ask("run", run="exp/version_0")["kind"] == "gone"  # at once, whatever the last search found
    assert tab.runs() == []


def test_answers_follow_the_times_of_files(tmp_path):
    run = write_run(tmp_path / "run")
    tab = Tab(tmp_path)
    before = tab.ask("component", run="run", call=CALLS[0], component=2)
    marks = [tab.ask("runs")["runs"][0]["mark"]]

    content = json.loads((run / "analysis" / "labels.json").read_text())
    next(one for one in content["labels"] if (one["call"], one["component"]) == (CALLS[0], 2))["label"] = "another"
    (run / "analysis" / "labels.json").write_text(json.dumps(content))
    later(run / "analysis" / "labels.json")
    save_file({CALLS[0]: np.full(6, 0.125, np.float32)}, run / "analysis" / "density.safetensors")
    later(run / "analysis" / "density.safetensors")
    later(run / "analysis")
    after = tab.ask("component", run="run", call=CALLS[0], component=2)
    tab.runs()
    marks.append(tab.ask("runs")["runs"][0]["mark"])

    assert (before["label"], after["label"]) == ("on z2", "another")
    assert (before["density"], after["density"]) == (0.25, 0.125)
    assert marks[0] != marks[1]


def test_what_did_not_change_is_read_once(tmp_path):
    path, made = tmp_path / "file", []
    path.write_text("a")
    cache = Cache()

    def make():
        made.append(path.read_text() if path.exists() else None)
        return made[-1]

    assert [cache.of("kind", [path], make) for _ in range(3)] == ["a"] * 3
    assert made == ["a"]
    assert cache.of("another kind", [path], make) == "a"
    path.write_text("b")
    later(path)
    assert cache.of("kind", [path], make) == "b"
    path.unlink()
    assert cache.of("kind", [path], make) is None
    assert len(made) == 4


def test_a_cache_drops_what_was_asked_for_longest_ago(tmp_path):
    cache, made = Cache(budget=10_000), []

    def ask(name, weight=4000):
        def make():
            made.append(name)
            return name

        return cache.of(name, [], make, lambda _: weight)

    for name in ("a", "b", "a", "c", "a", "b"):  # c puts b out
        ask(name)
    ask("large", 10_001)
    ask("large", 10_001)
    assert made == ["a", "b", "c", "b", "large", "large"]


def test_errors_are_not_kept(tmp_path):
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.of("kind", [], lambda: 1 // 0)
    assert cache.of("kind", [], lambda: 3) == 3


def test_what_makes_a_folder_a_run(tmp_path):
    for name, files in {
        "config": ["config.yaml"],
        "scores": ["metrics.json"],
        "artefact": ["config.json", "components.safetensors"],
        "analysis_only": ["analysis/x"],
        "half": ["config.json"],
        "events": ["events.out.tfevents.1"],
        ".hidden": ["config.yaml"],
        "config/checkpoints/x": ["config.yaml"],
        "config/test/version_0": ["metrics.json"],
    }.items():
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "config")
    (tmp_path / "circle").symlink_to(tmp_path)

    found = Discovery({"": tmp_path})()

    assert list(found.runs) == ["analysis_only", "artefact", "config", "config/test/version_0", "scores"]
    assert not found.is_cut


def test_the_log_directory_may_be_a_run_and_have_a_name(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    assert list(Discovery({"": tmp_path})().runs) == ["."]
    assert list(Discovery({"mine": tmp_path})().runs) == ["mine"]
    assert list(Discovery({"": tmp_path / "nothing"})().runs) == []


def test_log_directories_with_names(tmp_path):
    for name in ("one", "two"):
        write_artefact(tmp_path / name / "run")
    spec = f"first:{tmp_path / 'one'},{tmp_path / 'two'}"
    context = base_plugin.TBContext(logdir="", flags=argparse.Namespace(logdir_spec=spec))

    found = ComponentsPlugin(context)._discovery().runs

    assert found["first/run"] == tmp_path / "one" / "run"
    assert sorted(found.values()) == [tmp_path / "one" / "run", tmp_path / "two" / "run"]


def test_components_without_their_run(tmp_path):
    write_artefact(tmp_path / "shared")

    found = Tab(tmp_path).ask("run", run="shared")

    assert (found["state"], found["problems"], found["totals"]["l0"]) == ("bare", [], None)
    assert [one["count"] for one in found["sites"]] == [6, 6]


def test_the_search_is_bounded(tmp_path, monkeypatch):
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "metrics.json").write_text("")
    deep = tmp_path.joinpath(*"abcdefghijkl")
    deep.mkdir(parents=True)
    (deep / "config.yaml").write_text("")

    assert len(Discovery({"": tmp_path})().runs) == 8
    assert Discovery({"": tmp_path})().is_cut
    monkeypatch.setattr(discovery, "MAX_FOLDERS", 4)
    assert len(Discovery({"": tmp_path})().runs) < 8
    monkeypatch.setattr(discovery, "MAX_RUNS", 2)
    assert len(Discovery({"": tmp_path})().runs) == 2


def test_importing_the_plugin_imports_no_torch():
    """TensorBoard starts as fast with it, and its process stays small."""
    code = (
        "import sys, spd_lightning.tensorboard_plugin\n"
        "print(sorted({'torch', 'lightning', 'scipy', 'matplotlib'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parts_of_arrays(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_file({"a": values, "b": np.array([1, -2], np.int64)}, tmp_path / "f", {"note": "x"})
    found = ArrayFile(tmp_path / "f", "file")

    np.testing.assert_array_equal(found.read("a"), values)
    np.testing.assert_array_equal(found.read("a", 1, 2), values[1:3])
    np.testing.assert_array_equal(found.column("a", 2), values[:, 2])
    np.testing.assert_array_equal(found.read("b"), [1, -2])
    assert (found.shape("a"), found.nbytes("b"), found.notes, "c" in found) == ((4, 3), 16, {"note": "x"}, False)
    for wrong in (lambda: found.read("c"), lambda: found.read("a", 3, 2), lambda: found.column("a", 3)):
        with pytest.raises(UsageError, match=r"holds no|has no"):
            wrong()


def test_bfloat16_comes_as_float32(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    values = torch.tensor([[1.5, -2.25], [0.0, 3e20]], dtype=torch.bfloat16)
    save({"a": values}, tmp_path / "f")

    np.testing.assert_array_equal(ArrayFile(tmp_path / "f", "file").read("a"), values.float().numpy())


def test_an_array_file_that_changed_is_not_read_with_the_old_header(tmp_path):
    save_file({"a": np.zeros(4, np.float32)}, tmp_path / "f")
    found = ArrayFile(tmp_path / "f", "file")
    save_file({"b": np.zeros(2, np.float32), "a": np.ones(4, np.float32)}, tmp_path / "f")
    later(tmp_path / "f")

    with pytest.raises(UsageError, match="changed while it was read"):
        found.read("a")
    (tmp_path / "f").unlink()
    with pytest.raises(UsageError, match="is gone"):
        found.read("a")
