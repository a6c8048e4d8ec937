"""Graphs that are written and read again, and files that are none."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from spd_lightning import UsageError
from spd_lightning.analysis import attribution_graph, read_graph, save_graph, summed_graph
from spd_lightning.analysis.attribution_graph import same
from spd_lightning.analysis.examples import examples_of
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import example


@pytest.fixture(scope="module")
def graph():
    batch = next(examples_of([example("token transformer")]))
    found = attribution_graph(randomised(decomposed("token transformer")), batch, threshold=0.3)
    return replace(found, tokens=("<b>", "$x$", "\n", "日", "\\"))


def test_what_is_read_is_what_was_written(graph, tmp_path):
    path = tmp_path / "graphs" / "v1.2"
    save_graph(graph, path, {"text": "a $ b"})
    for given in (path, str(path), tmp_path / "graphs" / "v1.2.json", tmp_path / "graphs" / "v1.2.safetensors"):
        assert same(read_graph(given), graph)
    assert json.loads((tmp_path / "graphs" / "v1.2.json").read_text())["notes"] == {"text": "a $ b"}
    assert not same(replace(graph, signed=graph.signed + 1), graph)
    assert not same(replace(graph, tokens=()), graph)


def test_a_sum_is_read_as_one(tmp_path):
    found = summed_graph(randomised(decomposed("shared layer")), [example("shared layer")], threshold=0.3)
    save_graph(found, tmp_path / "sum")
    assert same(read_graph(tmp_path / "sum"), found)
    assert read_graph(tmp_path / "sum").examples == 4


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_nothing_is_overwritten(graph, suffix, tmp_path):
    (tmp_path / f"one{suffix}").write_text("mine")
    with pytest.raises(UsageError, match="nothing is overwritten"):
        save_graph(graph, tmp_path / "one")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def _notes(change):
    def harm(path):
        content = json.loads(path.with_suffix(".json").read_text())
        change(content)
        path.with_suffix(".json").write_text(json.dumps(content))

    return harm


def _arrays(change):
    def harm(path):
        tensors = load_file(path.with_suffix(".safetensors"))
        change(tensors)
        save_file(tensors, path.with_suffix(".safetensors"))

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".safetensors").unlink(),
        lambda path: path.with_suffix(".json").write_text("[" * 100_000),
        lambda path: path.with_suffix(".json").write_bytes(b"\xff"),
        lambda path: path.with_suffix(".safetensors").write_bytes(b"\xff" * 20),
        _notes(lambda content: content.update(format=9)),
        _notes(lambda content: content.update(places=content["places"][:2])),
        _notes(lambda content: content.pop("tokens")),
        _notes(lambda content: content.update(examples="many")),
        _arrays(lambda tensors: tensors.pop("value")),
        _arrays(lambda tensors: tensors.update(more=torch.zeros(2))),
        _arrays(lambda tensors: tensors.update(signed=tensors["signed"][:-1])),
        _arrays(lambda tensors: tensors.update(signed=tensors["signed"].float())),
        _arrays(lambda tensors: tensors.update(source=tensors["source"] + 10**6)),
        _arrays(lambda tensors: tensors.update(source=tensors["source"] * -1 - 1)),
        _arrays(lambda tensors: tensors.update(source=tensors["target"], target=tensors["source"])),
        _arrays(lambda tensors: tensors.update(kind=tensors["kind"] + 5)),
        _arrays(lambda tensors: tensors.update(signed=torch.zeros(0), kind=torch.zeros((), dtype=torch.int64))),
    ],
)
def test_files_that_are_no_graph_are_refused_in_one_line(harm, graph, tmp_path):
    save_graph(graph, tmp_path / "one")
    harm(tmp_path / "one")
    with pytest.raises(UsageError) as refused:
        read_graph(tmp_path / "one")
    assert "\n" not in str(refused.value)
    assert "one" in str(refused.value)
