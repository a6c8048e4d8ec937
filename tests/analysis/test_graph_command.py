"""``graph`` from the command line: what it writes and says, and what it refuses."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from spd_lightning import DecomposedModel, ResidualMLP
from spd_lightning.analysis import (
    attribution_graph,
    drawing,
    pruned,
    read_graph,
    share_kept,
    strongest_paths,
    summed_graph,
)
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.attribution_graph import KINDS, OUTPUT, same
from spd_lightning.analysis.examples import examples_of
from spd_lightning.runs.reopened import reopened
from tests.analysis.run_directories import written

SPARSE = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 4, "val_batches": 2, "val_batch_size": 6, "feature_probability": 0.9},
}


@pytest.fixture
def toy(tmp_path):
    """A run directory of a toy model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = ResidualMLP(4, 1, d_mlp=6, d_embed=5)
    model = DecomposedModel(target, {"layers.*.mlp_*": 5})
    return written(tmp_path / "toy", model, SPARSE)


def _refused(args, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["graph", *map(str, args)])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    return lines[0]


def test_an_example_of_a_toy_is_drawn(toy, capsys):
    main(["graph", str(toy), "--example", "7", "--outputs", "0,2", "--share", "0.7", "--paths", "2"])
    said = capsys.readouterr().out.splitlines()

    run = reopened(toy)
    batch = list(examples_of(run.batches))[7]
    expected = attribution_graph(run.model, batch, outputs=[0, 2])
    graph = read_graph(toy / "analysis/graphs/example-7")
    assert same(graph, expected)
    small = pruned(graph, 0.7)
    assert said[0].startswith("output:0 is ")
    assert said[1].startswith("output:2 is ")
    assert said[3] == (
        f"{small.n_nodes} of {graph.n_nodes} nodes and {small.n_edges} of {graph.n_edges} edges keep "
        f"{share_kept(small):.1%} of it; the strongest paths:"
    )
    assert len(said) == 7
    strongest = strongest_paths(small, 2)
    assert [float(line.split("%")[0]) for line in said[4:6]] == pytest.approx(
        [100 * path.share * path.sign for path in strongest], abs=0.06
    )
    assert said[4].endswith(small.name_of(strongest[0].nodes[-1]))
    picture = ElementTree.fromstring((toy / "analysis/graphs/example-7.svg").read_text())
    assert said[4] in "".join(picture.itertext())  # in words, with the picture
    notes = json.loads((toy / "analysis/graphs/example-7.json").read_text())["notes"]
    assert (notes["example"], notes["outputs"], notes["share"], notes["said"]) == (7, "0,2", 0.7, said[:-1])


def test_the_sum_over_the_data_is_drawn(toy, tmp_path, capsys):
    main(["graph", str(toy), "--data", "--examples", "9", "--top", "2", "--output", str(tmp_path / "new" / "sum")])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"written to {tmp_path / 'new' / 'sum.svg'}")
    run = reopened(toy)
    graph = read_graph(tmp_path / "new" / "sum")
    assert same(graph, summed_graph(run.model, run.batches, top=2, examples=9))
    assert graph.examples == 9
    assert not (toy / "analysis").exists()


def test_text_is_drawn_with_its_tokens(language, tmp_path, capsys):
    run, data = language
    main(["graph", str(run), "--text", "the <cat> saw", "--next", "a", "--output", str(tmp_path / "text")])
    said = capsys.readouterr().out.splitlines()

    numbers = data.tokenizer.encode(["the <cat> saw"])[0].tolist()
    wanted = data.tokenizer.encode(["a"])[0].tolist()
    ids = torch.tensor([numbers])
    model = DecomposedModel.from_pretrained(run)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    graph = read_graph(tmp_path / "text")
    assert "".join(graph.tokens) == "the <cat> saw"
    assert same(graph, _with_tokens(attribution_graph(model, batch, outputs=wanted), graph.tokens))
    assert said[0].startswith(f"output:{wanted[0]} 'a' @ {len(numbers) - 1} ")
    columns = drawing(graph, 1000)["columns"]
    assert columns[:2] == ["transformer.wte", "transformer.wpe"]
    assert columns[-1] == "output"


def _with_tokens(graph, tokens):
    return type(graph)(**{**vars(graph), "tokens": tokens})


def test_the_most_likely_next_tokens_are_explained_by_default(language, tmp_path, capsys):
    run, _ = language
    main(["graph", str(run), "--example", "1", "--top", "2", "--output", str(tmp_path / "next")])
    capsys.readouterr()
    graph = read_graph(tmp_path / "next")
    found = reopened(run)
    batch = list(examples_of(found.batches))[1]
    largest = found.model.clean(batch).output[0, int(batch["attention_mask"].sum()) - 1].topk(2).indices
    assert sorted(graph.index[graph.kind == OUTPUT].tolist()) == sorted(largest.tolist())
    assert len(graph.tokens) == 8


def test_few_nodes_are_drawn_where_few_are_asked_for(toy):
    run = reopened(toy)
    graph = attribution_graph(run.model, list(examples_of(run.batches))[7])
    few = drawing(graph, 3)
    assert len(few["labels"]) == 3
    assert "output" in few["kinds"]
    assert few["note"] == f"{graph.n_nodes - 3} nodes through which less passes are not drawn"
    assert set(few["kinds"]) <= set(KINDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "one of the arguments --text --example --data is required"),
        (["--example", "0", "--data"], "not allowed with argument"),
        (["--example", "12"], "--example 12 does not exist; the run's test data has 12, from 0"),
        (["--example", "-1"], "--example must be at least 0"),
        (["--text", "a"], "--text needs a run whose data has a tokenizer"),
        (["--example", "7", "--next", "a"], "--next needs a run whose data has a tokenizer"),
        (["--example", "7", "--outputs", "a"], "--outputs must be N[,N...]"),
        (["--example", "7", "--outputs", "4"], "there is no output 4; the network has 4, from 0 to 3"),
        (["--example", "7", "--outputs", "1,1"], "outputs must differ"),
        (["--example", "7", "--position", "3"], "there is no position 3"),
        (["--example", "7", "--share", "0"], "--share must lie in (0, 1]"),
        (["--example", "7", "--threshold", "2"], "--threshold must lie in [0, 1]"),
        (["--example", "7", "--nodes", "1"], "--nodes must be at least 2"),
        (["--example", "7", "--paths", "0"], "--paths must be at least 1"),
        (["--data", "--examples", "0"], "--examples must be at least 1"),
        (["--example", "7", "--device", "nowhere"], "--device 'nowhere' cannot be used"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(given, message, toy, capsys):
    assert message in _refused([toy, *given], capsys)
    assert not (toy / "analysis").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--text", "the cat saw a dog and a red house while"], "tokens, but the target takes 8; shorten it"),
        (["--text", ""], "--text must have at least one token"),
        (["--text", "\ud800"], "is no text in Unicode"),
        (
            ["--text", "a", "--next", "zq"],
            "--next must be one token of the vocabulary, got 'zq', which is 'z' 'q' there",
        ),
        (["--text", "a", "--next", ""], "--next must be one token of the vocabulary, got '', which is nothing there"),
        (["--text", "a", "--outputs", "300"], "there is no output 300"),
    ],
)
def test_text_that_cannot_be_is_refused(given, message, language, capsys):
    run, _ = language
    assert message in _refused([run, *given], capsys)
    assert not (run / "analysis").exists()


@pytest.mark.parametrize("suffix", [".svg", ".json", ".safetensors"])
def test_a_name_that_is_taken_is_refused(suffix, toy, tmp_path, capsys):
    (tmp_path / f"mine{suffix}").write_text("mine")
    assert "nothing is overwritten" in _refused([toy, "--example", "7", "--output", tmp_path / "mine"], capsys)
    assert [path.read_text() for path in Path(tmp_path).glob("mine*")] == ["mine"]


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert "is this the directory of a finished run?" in _refused([tmp_path, "--example", "0"], capsys)
