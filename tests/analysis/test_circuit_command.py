"""``circuit`` and ``query_key`` from the command line: what they write, and what they refuse."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from spd_lightning import DecomposedModel, KeywordCall, LanguageModel, ToyModelOfSuperposition
from spd_lightning.analysis import WITH, WITHOUT, attention_layers, query_key, read_circuits
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.commands.examples import picked
from spd_lightning.runs.reopened import reopened
from tests.analysis.circuit_systems import IMPORTANCE, as_read, known_induction
from tests.data.texts import documents, folder_of

CALL = {"inputs": ["input_ids", "attention_mask"], "weights": "attention_mask", "output": "logits"}
INDUCTION = {"class_path": "spd_lightning.data.InductionSequences", "init_args": {"size": 6, "split": "test"}}
DATA = {
    "language": {"class_path": "spd_lightning.TextTokens"},
    "toy": {
        "class_path": "spd_lightning.SparseFeatures",
        "init_args": {"n_features": 4, "val_batches": 2, "val_batch_size": 8, "feature_probability": 0.4},
    },
    "induction": {
        "class_path": "spd_lightning.DatasetBatches",
        "init_args": {"train": INDUCTION, "val": INDUCTION, "batch_size": 4, "val_batch_size": 4},
    },
}
SHORT = ["--steps", "3", "--adversary_steps", "2"]


def _written(folder, model, data, losses=None):
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {}, "model": {"losses": losses}, "data": data}))
    return folder


def _language_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = LanguageModel("llama", vocabulary=300, length=8, width=8, layers=1, heads=2)
    call = KeywordCall(**CALL, labels="input_ids", ahead=1)
    return DecomposedModel(target, {"*.[qkv]_proj": 5, "*.up_proj": 4}, call=call, importance=IMPORTANCE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories by what their targets are."""
    folder = tmp_path_factory.mktemp("runs")
    text = {"sources": [folder_of(folder / "texts", documents(12))], "vocabulary": 300, "length": 8}
    text |= {"val_fraction": 0.4, "batch_size": 2, "val_batch_size": 4}
    losses = {"r": {"class_path": "spd_lightning.Reconstruction", "init_args": {"distance": "kl"}}}
    toy = DecomposedModel(ToyModelOfSuperposition(4, 3), {"linear*": 9}, importance=IMPORTANCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
        yield {
            "language": _written(folder / "lm", _language_model(), {**DATA["language"], "init_args": text}, losses),
            "toy": _written(folder / "toy", as_read(toy), DATA["toy"]),
            "induction": _written(folder / "induction", known_induction(), DATA["induction"], losses),
        }


def _circuit(run, *given):
    main(["circuit", str(run), *given, *SHORT])


def test_a_prompt_has_a_circuit(runs, capsys):
    run = runs["language"]
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    _circuit(run, "--text", "the cat saw", "--next", " a")

    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in said[1:9]] == [
        "nats from what is wanted",
        "nodes",
        "alone, all else off",
        "random masks",
        "fresh adversary",
        "fresh adversary on everything",
        "taken away from the target",
        "as many drawn nodes, alone",
    ]
    assert said[9].startswith("the target ")
    assert any(" at position 1 ' cat': " in line for line in said)
    folder = run / "analysis" / "circuits"
    assert {f"the_cat_saw_a{ending}" for ending in (".json", ".safetensors", ".png")} <= {
        p.name for p in folder.iterdir()
    }
    assert (folder / "the_cat_saw_a.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before

    model, tokenizer = DecomposedModel.from_pretrained(run), reopened(run).tokenizer
    found = read_circuits(folder / "the_cat_saw_a", model)
    (ids,) = tokenizer.encode(["the cat saw"])
    (wanted,) = tokenizer.encode([" a"])
    about = json.loads((folder / "the_cat_saw_a.json").read_text())
    assert about["about"]["tokens"] == [ids.tolist()]
    assert found.goal.labels.tolist() == wanted.tolist()
    assert found.search.steps == 3
    batch = {"input_ids": torch.tensor(ids)[None], "attention_mask": torch.ones(1, len(ids))}
    own = model.clean(batch).output[0, -1].log_softmax(-1)[int(wanted[0])]
    assert found.outcomes["target"].distance.item() == pytest.approx(-own.item(), rel=1e-4)
    assert all(g.shape[:2] == (1, 3) for g in found.circuits[WITH].importances.values())


def test_the_same_name_is_refused_before_anything_is_done(runs, capsys):
    given = ("--text", "a red house", "--name", "mine")
    _circuit(runs["language"], *given)
    files = {path: path.read_bytes() for path in (runs["language"] / "analysis" / "circuits").iterdir()}
    with pytest.raises(SystemExit) as stopped:
        _circuit(runs["language"], *given)
    assert stopped.value.code == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files} == files


def test_prompts_of_a_task_share_importances(runs, capsys):
    _circuit(
        runs["language"],
        "--text",
        "the cat saw",
        "--text",
        "the dog ran",
        "--next",
        " a",
        "--next",
        " home",
        "--shared",
    )
    assert "the_cat_saw_the_dog_ran_a_home" in capsys.readouterr().out
    path = runs["language"] / "analysis" / "circuits" / "the_cat_saw_the_dog_ran_a_home"
    found = read_circuits(path, DecomposedModel.from_pretrained(runs["language"]))
    assert {len(g) for g in found.circuits[WITHOUT].importances.values()} == {1}
    assert found.outcomes["target"].distance.shape == (2,)


def test_examples_of_a_toy_keep_the_target_s_output(runs, capsys):
    _circuit(runs["toy"], "--example", "9,2")
    said = capsys.readouterr().out
    assert "squared error from what is wanted" in said
    assert "right" not in said
    model = DecomposedModel.from_pretrained(runs["toy"])
    found = read_circuits(runs["toy"] / "analysis" / "circuits" / "example_9_2", model)
    first, second = list(reopened(runs["toy"]).batches)
    x = torch.stack([second[1], first[2]])  # batches of eight
    assert torch.allclose(found.goal.wanted[:, 0], model.clean(x).output)


def test_examples_may_want_the_labels_of_the_data(runs, capsys):
    _circuit(runs["induction"], "--example", "5,0", "--labels")
    assert "(100% right)" in capsys.readouterr().out
    model = DecomposedModel.from_pretrained(runs["induction"])
    found = read_circuits(runs["induction"] / "analysis" / "circuits" / "example_5_0_labels", model)
    batches = list(reopened(runs["induction"]).batches)
    tokens, answers = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(batches) > 1
    assert found.goal.labels.tolist() == answers[[5, 0]].tolist()
    assert torch.equal(picked(batches, [5, 0])[0], tokens[[5, 0]])
    _circuit(runs["language"], "--example", "1", "--labels", "--position", "2", "--name", "in_text")
    found = read_circuits(
        runs["language"] / "analysis" / "circuits" / "in_text", DecomposedModel.from_pretrained(runs["language"])
    )
    batch = next(iter(reopened(runs["language"]).batches))
    assert found.goal.labels.tolist() == [batch["input_ids"][1, 3].item()]  # the next token there


@pytest.mark.parametrize(
    ("run", "given", "message"),
    [
        (
            "language",
            ["--text", "the cat", "--next", " a red"],
            "--next must be one token of the vocabulary, got ' a red'",
        ),
        (
            "language",
            ["--text", "the cat", "--next", ""],
            "--next must be one token of the vocabulary, got '', which is no",
        ),
        ("language", ["--text", ""], "--name must be given"),
        ("language", ["--text", "", "--name", "x"], "--text must have at least one token"),
        ("language", ["--text", "the cat saw a red house and ran home"], "--text has 9 tokens, but the target takes 8"),
        ("language", ["--text", "the", "--text", "the cat"], "prompts must have the same number of tokens, got [1, 2]"),
        ("language", ["--text", "the cat", "--class", "300"], "token or class must be at most 299, got 300"),
        ("language", ["--text", "the cat", "--next", " a", "--position", "2"], "the position must be at most 1, got 2"),
        ("language", ["--text", "the cat", "--labels"], "--labels: position -1 has no label in every row"),
        ("language", ["--text", "the cat", "--next", " a", "--class", "1"], "not allowed with argument"),
        ("language", ["--text", "the cat", "--name", "../x"], "--name must be letters, digits, _, - and ., got '../x'"),
        ("language", ["--text", "the cat", "--lr", "nan"], "circuit: lr must be a finite number above 0"),
        ("language", ["--text", "the cat", "--device", "nowhere"], "--device 'nowhere' cannot be used"),
        ("toy", ["--text", "the cat"], "--text needs a run whose data has a tokenizer"),
        ("toy", ["--example", "0", "--next", " a"], "--next needs a run whose data has a tokenizer"),
        ("toy", ["--example", "0", "--labels"], "--labels: the data holds no labels that fit the output"),
        ("toy", ["--example", "16"], "--example 16 does not exist; the run's test data has 16, from 0"),
        ("toy", ["--example", "-1"], "--example"),
        ("toy", ["--example", "one"], "--example must be N[,N...], whole numbers from 0, got 'one'"),
        ("toy", ["--example", "0", "--class", "0,1"], "there are 1 rows, got 2 wanted"),
        ("toy", [], "one of the arguments --text --example is required"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(run, given, message, runs, capsys):
    before = sorted(runs[run].rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        _circuit(runs[run], *given)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(runs[run].rglob("*")) == before


@pytest.mark.parametrize("command", [["circuit", "--text", "a"], ["query_key"]])
def test_a_folder_without_a_run_is_refused(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command[0], str(tmp_path), *command[1:]])
    assert stopped.value.code == 2
    assert "is this the directory of a finished run?" in capsys.readouterr().err


def test_pairs_are_printed_written_and_drawn(runs, capsys):
    run = runs["induction"]
    main(["query_key", str(run), "--top", "2", "--offsets", "4"])

    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["layer", "head", "query", "key", "back", "static", "mean", "rms"]
    assert len(said) == 1 + 2 * 2 + 1
    rows = [line.split() for line in said[1:-1]]
    assert all(row[2] == row[3] for row in rows)  # the same token, or a position and the one before it
    assert [row[4] for row in rows[:2]] == ["1", "1"]
    folder = run / "analysis" / "query_key"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"query_key{end}" for end in (".json", ".png", ".safetensors")
    ]

    tensors, about = load_file(folder / "query_key.safetensors"), json.loads((folder / "query_key.json").read_text())
    model = DecomposedModel.from_pretrained(run)
    wanted = query_key(model, attention_layers(model), reopened(run).batches, range(4))
    for one in wanted:
        for name in ("queries", "keys", "coupling", "static", "mean", "rms", "pairs"):
            assert torch.equal(tensors[f"{one.layer.name}/{name}"], getattr(one, name))
    assert about["layers"]["layers.0"]["rotary"] is False
    assert about["offsets"] == [0, 1, 2, 3]

    with pytest.raises(SystemExit):
        main(["query_key", str(run)])
    assert "exists, and nothing is overwritten" in capsys.readouterr().err


def test_one_head_of_one_layer_may_be_asked_for(runs, capsys):
    main(
        [
            "query_key",
            str(runs["language"]),
            "--layer",
            "model.layers.0.self_attn",
            "--head",
            "1",
            "--batches",
            "1",
            "--threshold",
            "0",
        ]
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert {(row[0], row[1]) for row in rows} == {("model.layers.0.self_attn", "1")}
    about = json.loads((runs["language"] / "analysis" / "query_key" / "query_key.json").read_text())
    layer = about["layers"]["model.layers.0.self_attn"]
    assert layer["rotary"] is True
    assert list(layer["strongest"]) == ["1"]


@pytest.mark.parametrize(
    ("run", "given", "message"),
    [
        ("language", ["--head", "2"], "there is no head 2 in 'model.layers.0.self_attn'; it has 0 to 1"),
        ("language", ["--head", "-1"], "there is no head -1 in"),
        ("language", ["--layer", "model.layers.1.self_attn"], "--layer must be one of model.layers.0.self_attn, got"),
        ("language", ["--offsets", "0"], "--offsets must be at least 1, got 0"),
        ("language", ["--top", "0"], "--top must be at least 1, got 0"),
        ("language", ["--batches", "0"], "--batches must be at least 1, got 0"),
        ("language", ["--name", "a/b"], "--name must be letters"),
        ("toy", [], "no attention layer has sites for both queries and keys; it reads AttentionOnly"),
    ],
)
def test_wrong_questions_about_heads_are_one_line(run, given, message, runs, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["query_key", str(runs[run]), "--name", "other", *given])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert not (runs[run] / "analysis" / "query_key" / "other.json").exists()
