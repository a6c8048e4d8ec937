"""Files from anywhere: cut, flipped, foreign, links that lead out; one line each, and never a 5xx."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tensorboard_plugin.client import Tab, decoded
from tests.tensorboard_plugin.made_runs import CALLS, alive, row, write_json, write_run

ROUTES = [
    ("run", {}),
    ("components", {}),
    ("components", {"step": "10"}),
    ("components", {"search": "on"}),
    ("map", {}),
    ("component", {"call": CALLS[0], "component": "2"}),
    ("component", {"call": CALLS[1], "component": "1"}),
    ("vectors", {"call": CALLS[0], "component": "2"}),
    ("mechanisms", {}),
    ("mechanism", {"number": "0"}),
    ("graphs", {}),
    ("graph", {"name": "text-1"}),
    ("circuits", {}),
    ("circuit", {"name": "a_b"}),
    ("heatmaps", {}),
    ("heatmap", {"call": CALLS[0]}),
    ("compare", {}),
    ("pairs", {"site": CALLS[0]}),
]
FILES = [
    "config.json",
    "config.yaml",
    "metrics.json",
    "components.safetensors",
    "analysis/density.safetensors",
    "analysis/importances.safetensors",
    "analysis/ablations.safetensors",
    "analysis/steps/step=10/density.safetensors",
    "analysis/harvest.safetensors",
    "analysis/harvest.jsonl",
    "analysis/labels.json",
    "analysis/mechanisms.json",
    "analysis/intruders.json",
    "analysis/graphs/text-1.json",
    "analysis/graphs/text-1.safetensors",
    "analysis/circuits/a_b.json",
    "analysis/circuits/a_b.safetensors",
]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "logdir" / "run")


def everything(tab):
    """Answers of all routes; every error is one line."""
    for path, parameters in ROUTES:
        found = tab.response(path, run="run", a="run", b="run", **parameters)
        assert found.status_code == 200, (path, found.get_data())
        content = decoded(found)
        if "error" in content:
            assert "\n" not in content["error"]
            assert content["kind"] in ("missing", "gone", "damaged")
        yield path, content


def rewritten(path, content):
    """Other content, and a time that no cache takes for the old one."""
    rewritten.at += 1
    path.write_bytes(content)
    os.utime(path, ns=(rewritten.at * 10**9, rewritten.at * 10**9))


rewritten.at = 10**9


@pytest.fixture
def tab(run):
    return Tab(run.parent)


@pytest.fixture(autouse=True)
def _no_surprises(monkeypatch):
    """What a file can do was thought of: nothing reaches the net below."""
    from spd_lightning.tensorboard_plugin import answers

    def raising(message):
        raise AssertionError(message)

    monkeypatch.setattr(answers.tb_logging.get_logger(), "exception", raising)


def test_all_is_well_without_damage(tab):
    assert [path for path, content in everything(tab) if "error" in content] == []


@pytest.mark.parametrize("name", FILES)
def test_files_cut_at_every_sixteenth(tab, run, name):
    whole = (run / name).read_bytes()
    told = 0
    for part in range(16):
        rewritten(run / name, whole[: len(whole) * part // 16])
        told += sum("error" in str(content) or content.get("problems") != [] for _, content in everything(tab))
    assert told
    rewritten(run / name, whole)
    assert not any("error" in content for _, content in everything(tab))


@pytest.mark.parametrize("name", FILES)
def test_files_with_flipped_bits(tab, run, name):
    whole = (run / name).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(12):
        flipped = bytearray(whole)
        for at in draw.integers(0, len(whole), 3):
            flipped[at] ^= 1 << int(draw.integers(8))
        rewritten(run / name, bytes(flipped))
        assert len(list(everything(tab))) == len(ROUTES)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b"1e999", b'{"sites": 3}', b"[" * 100_000, b"\xff\xfe"]
)
def test_files_that_hold_something_else(tab, run, content):
    for name in FILES:
        whole = (run / name).read_bytes()
        rewritten(run / name, content)
        assert len(list(everything(tab))) == len(ROUTES)
        rewritten(run / name, whole)


@pytest.mark.parametrize("name", FILES)
def test_links_that_lead_out_are_not_read(tab, run, tmp_path, name):
    outside = tmp_path / "secret"
    whole = (run / name).read_bytes()
    outside.write_bytes(whole.replace(b"on z2", b"SECRT").replace(b"a b", b"SEC"))
    (run / name).unlink()
    (run / name).symlink_to(outside)

    answers = list(everything(tab))

    assert "SEC" not in str(answers).replace("SECRET", "")
    assert any("leads out" in str(content) or "error" in str(content) for _, content in answers)


def test_a_folder_that_is_a_link_is_not_read(tab, run, tmp_path):
    graphs = run / "analysis" / "graphs"
    graphs.rename(tmp_path / "graphs")
    graphs.symlink_to(tmp_path / "graphs")

    assert tab.ask("graphs", run="run")["kind"] == "missing"
    assert tab.ask("graph", run="run", name="text-1")["kind"] == "gone"


@pytest.mark.parametrize(
    "name", ["../run", "run/..", "/etc", "run/../run", "./run", "..", "run\0", "run/", "%2e%2e", "run/analysis", "C:\\"]
)
def test_parameters_name_what_was_found_and_nothing_else(tab, name):
    for path, parameters in ROUTES:
        found = tab.response(path, run=name, a=name, b="run", **parameters)
        assert found.status_code in (200, 400)
        assert decoded(found)["kind"] in ("gone", "wrong")


@pytest.mark.parametrize(
    "name", ["../text-1", "../../config", "../graphs/text-1", "text-1.json", "", ".", "/etc/passwd"]
)
def test_names_of_graphs_lead_nowhere_else(tab, name):
    assert tab.ask("graph", run="run", name=name)["kind"] == "gone"
    assert tab.ask("circuit", run="run", name=name)["kind"] == "gone"


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "9" * 30, "٣", "1.5", " 1"])
def test_numbers_are_whole_numbers(tab, value):
    for name in ("first", "count", "step", "mechanism"):
        assert tab.response("components", run="run", **{name: value}).status_code == 400
    assert tab.response("component", run="run", call=CALLS[0], component=value).status_code == 400


def test_long_parameters_are_refused(tab):
    assert tab.response("components", run="run", search="x" * 501).status_code == 400
    assert tab.response("components", run="run", sort="no such").status_code == 400


def declared(names, shape, dtype="F32", end=0):
    """A safetensors file that declares more than it holds."""
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, end]} for name in names}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        declared(CALLS, [1_000_000]),
        declared(CALLS, [1_000_000], end=4_000_000),
        declared(CALLS, [10**12, 0]),
        declared(CALLS, [2**62, 4], end=0),
        declared(CALLS, [-1]),
        declared(CALLS, [True], end=4),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_a_million_components_that_are_only_declared(tab, run, content):
    rewritten(run / "analysis" / "density.safetensors", content)
    answers = dict(everything(tab))
    assert answers["components"]["total"] <= 12
    rewritten(run / "components.safetensors", content)
    assert len(list(everything(tab))) == len(ROUTES)


def test_a_config_that_declares_a_million_components(tab, run):
    config = json.loads((run / "config.json").read_text())
    for site in config["sites"].values():
        site["C"] = 10**6
    config["sites"]["ghost"] = {"C": 10**9, "d_in": 10**9, "d_out": 10**9}
    rewritten(run / "config.json", json.dumps(config).encode())

    assert tab.ask("components", run="run", alive="all")["total"] == 12
    assert tab.ask("vectors", run="run", call="ghost", component=0)["kind"] == "gone"


def test_a_million_components_that_are_there_are_paged(tab, run):
    density = np.zeros(10**6, np.float32)
    density[123_456] = 0.5
    save_file({"wide": density}, run / "analysis" / "density.safetensors")
    (run / "config.json").unlink()
    for name in ("harvest.safetensors", "harvest.jsonl", "labels.json", "mechanisms.json"):
        (run / "analysis" / name).unlink()

    assert tab.ask("components", run="run", alive="all", first=999_999)["total"] == 10**6
    assert tab.ask("components", run="run")["rows"][0]["component"] == 123_456


def test_what_files_say_comes_back_as_it_is(tab, run):
    label = "<script>alert(1)</script>\"'&\u202e" + "x" * 10_000
    content = {"weights": "w", "labeller": "t", "labels": [{"call": CALLS[0], "component": 2, "label": label}]}
    write_json(run / "analysis" / "labels.json", content)

    listed = tab.ask("components", run="run", search="<script>")["rows"][0]["label"]
    card = tab.ask("component", run="run", call=CALLS[0], component=2)["label"]

    assert (listed, card) == (label[:300] + "…", label[:10_000])


def test_a_line_without_end_and_rows_of_another_spelling(tab, run):
    rows = [json.dumps(row(*key), separators=(",", ":")) for key in alive()]
    rewritten(run / "analysis" / "harvest.jsonl", ("\n".join(rows) + "\n").encode())
    assert tab.ask("component", run="run", call=CALLS[0], component=2)["row"]["firings"] == 25

    rewritten(run / "analysis" / "harvest.jsonl", ("\n".join(rows) + "\n" + rows[0][:40]).encode())
    told = tab.ask("component", run="run", call=CALLS[0], component=2)["row"]
    assert told["kind"] == "damaged"
    assert f"line {len(rows) + 1}" in told["error"]


def test_numbers_that_are_none(tab, run):
    save_file(
        {CALLS[0]: np.array([np.nan, np.inf, -np.inf, 0.5], np.float32)}, run / "analysis" / "density.safetensors"
    )
    answers = dict(everything(tab))
    assert answers["components"]["rows"]
