"""``edit`` from the command line: what it writes, what loads it, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spd_lightning import (
    DecomposedModel,
    HuggingFaceModel,
    ToyModelOfSuperposition,
    Unfused,
)
from spd_lightning.analysis import Edit, edited, fitted_vectors, save_edited
from spd_lightning.analysis.__main__ import main
from spd_lightning.runs.reopened import reopened
from tests.analysis.run_directories import written
from tests.targets.hugging_face import built

SPARSE = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 4, "val_batches": 1, "val_batch_size": 64, "feature_probability": 0.4},
}


@pytest.fixture
def toy(tmp_path):
    """A run directory of a toy model."""
    model = DecomposedModel(ToyModelOfSuperposition(4, 3), {"linear*": 9}, ties={"linear2": "linear1"})
    return written(tmp_path / "toy", model, SPARSE)


def test_a_toy_model_is_edited(toy, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in toy.iterdir()}
    output = tmp_path / "new" / "edited"
    main(
        [
            "edit",
            str(toy),
            "--remove",
            "linear1:0,2",
            "--scale",
            "linear2:1=0.5",
            "--output",
            str(output),
            "--draws",
            "2",
        ]
    )

    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["linear1:0 is removed", "linear1:2 is removed", "linear2:1 is scaled by 0.5"]
    assert said[3] == "linear1.weight, linear2.weight are one matrix: the edit is in all of them"
    assert [line.split("  ")[0] for line in said[-5:]] == [
        "mse",
        "this edit",
        "random directions",
        "random components",
        f"written to {output}",
    ]
    assert sorted(path.name for path in output.iterdir()) == ["edit.json", "model.safetensors"]
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == before

    model = DecomposedModel.from_pretrained(toy)
    wanted = edited(model, [Edit("linear1", 0), Edit("linear1", 2), Edit("linear1", 1, 0.5)])
    state = load_file(output / "model.safetensors")
    assert set(state) == set(model.target.state_dict())
    assert torch.allclose(state["linear1.weight"], wanted.linear1.weight, atol=1e-6)
    assert torch.equal(state["linear2.weight"], state["linear1.weight"].T)
    report = json.loads((output / "edit.json").read_text())
    assert report["edits"][2] == {"site": "linear2", "component": 1, "factor": 0.5, "towards": None}
    assert len(report["controls"]["random directions"]["elsewhere"]["draws"]) == 2


def test_vectors_are_fitted_to_training_data_first(toy, tmp_path, capsys):
    said = {}
    for name, options in {"whole": [], "weights": ["--no_report"]}.items():
        output = tmp_path / name
        main(["edit", str(toy), "--remove", "linear1:1,3", "--fit", "3", "--output", str(output), *options])
        said[name] = capsys.readouterr().out.splitlines()
    run = reopened(toy)
    edits = [Edit("linear1", 1), Edit("linear1", 3)]
    fitted = fitted_vectors(run.model, edits, [run.batches.data.train_batch(index) for index in range(3)])
    shares = fitted["linear1"].explained.tolist()

    line = "the fitted vector of linear1:{} reads {:.1%} of what it should"
    assert said["whole"][3:5] == [line.format(1, shares[0]), line.format(3, shares[1])] == said["weights"][3:5]
    assert json.loads((tmp_path / "whole/edit.json").read_text())["fitted"] == {"linear1": pytest.approx(shares)}
    wanted = edited(run.model, edits, fitted=fitted)
    for name in said:
        assert torch.equal(load_file(tmp_path / name / "model.safetensors")["linear1.weight"], wanted.linear1.weight)
    assert not torch.allclose(wanted.linear1.weight, edited(run.model, edits).linear1.weight, atol=1e-3)


@pytest.mark.parametrize(
    ("batches", "message"), [("0", "--fit must be at least 1, got 0"), ("x", "invalid int value: 'x'")]
)
def test_a_number_of_batches_that_is_none_is_refused(batches, message, toy, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["edit", str(toy), "--remove", "linear1:0", "--fit", batches, "--output", str(tmp_path / "edited")])
    assert message in capsys.readouterr().err


LOADER = """
import sys
sys.modules["spd_lightning"] = None  # importing it fails
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, toy, where = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
ids = tokenizer("the cat saw", return_tensors="pt").input_ids
network = torch.nn.ModuleDict({"linear1": torch.nn.Linear(4, 3, bias=False), "linear2": torch.nn.Linear(3, 4)})
network.load_state_dict(load_file(toy))
torch.save({"ids": ids, "logits": model(ids).logits.detach(), "cache": model.config.use_cache}, where)
"""


def test_what_is_written_loads_without_this_package(language, toy, tmp_path, capsys):
    run, data = language
    folder = tmp_path / "edited"
    main(
        [
            "edit",
            str(run),
            "--remove",
            "transformer.h.0.mlp.c_fc:1",
            "--redirect",
            "transformer.h.0.attn.c_attn[v]:0=transformer.h.0.attn.c_attn[v]:2",
            "--output",
            str(folder),
            "--draws",
            "1",
        ]
    )
    said = capsys.readouterr().out
    assert "transformer.h.0.attn.c_attn[v]:0 writes like transformer.h.0.attn.c_attn[v]:2" in said
    assert "rise of cross entropy" in said
    assert "\nkl  " in said
    main(["edit", str(toy), "--remove", "linear1:0", "--output", str(tmp_path / "toys"), "--no_report"])
    assert [path.name for path in (tmp_path / "toys").iterdir()] == ["model.safetensors"]

    command = [sys.executable, "-W", "ignore", "-c", LOADER, str(folder), str(tmp_path / "toys" / "model.safetensors")]
    subprocess.run(
        [*command, str(tmp_path / "found.pt")], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}
    )
    found = torch.load(tmp_path / "found.pt")
    assert found["ids"][0].tolist() == data.tokenizer.encode(["the cat saw"])[0].tolist()
    assert found["cache"]
    site = "transformer.h.0.attn.c_attn[v]"
    model = DecomposedModel.from_pretrained(run)
    wanted = edited(model, [Edit("transformer.h.0.mlp.c_fc", 1), Edit(site, 0, 1.0, (site, 2))])
    with torch.no_grad():
        assert torch.allclose(found["logits"], wanted(found["ids"]).logits, atol=1e-5)
        assert not torch.allclose(found["logits"], model.target(found["ids"]).logits, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_a_model_from_a_folder_keeps_its_tokenizer_and_its_ties(family, tmp_path):
    import transformers

    built(family).save_pretrained(tmp_path / "original")
    (tmp_path / "original" / "tokenizer.json").write_text('{"made": "by hand"}')
    target = HuggingFaceModel(str(tmp_path / "original"))
    site = {"gpt2": "transformer.wte", "qwen2": "lm_head"}[family]
    model = DecomposedModel(target, {site: 4})
    save_edited(edited(model, [Edit(site, 0)]), tmp_path / "edited")

    assert (tmp_path / "edited" / "tokenizer.json").read_text() == '{"made": "by hand"}'
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    ids = torch.arange(6)[None]
    assert torch.allclose(loaded(ids).logits, edited(model, [Edit(site, 0)])(ids).logits, atol=1e-5)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


@torch.no_grad()
@pytest.mark.parametrize("wrap", [lambda model: model, Unfused])
def test_a_model_of_transformers_of_one_s_own_becomes_a_folder(wrap, tmp_path):
    import transformers

    network = built("llama")
    model = DecomposedModel(wrap(network), {"*.mlp.up_proj": 4})
    site = model.site_names[0]
    save_edited(edited(model, [Edit(site, 0)]), tmp_path / "edited")

    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    found = loaded.get_submodule(site.removeprefix("network.")).weight
    assert torch.equal(found, edited(model, [Edit(site, 0)]).get_submodule(site).weight)
    assert not torch.equal(found, model.target.get_submodule(site).weight)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--remove", "linear1"], "--remove must be SITE:INDEX[,INDEX...], for example linear1:3, got 'linear1'"),
        (["--remove", "linear1:a"], "--remove must be"),
        (["--remove", ":3"], "--remove must be"),
        (["--scale", "linear1:3"], "--scale must be SITE:INDEX[,INDEX...]=FACTOR"),
        (["--scale", "linear1:3=much"], "--scale must be"),
        (["--redirect", "linear1:3"], "--redirect must be"),
        (["--redirect", "linear1:3=linear1:1,2"], "--redirect must name one component to write like"),
        (["--remove", "linear3:0"], "edit: there is no site 'linear3'; did you mean linear2 or linear1?"),
        (["--remove", "linear1:9"], "there is no component linear1:9; the site has 9"),
        ([], "edit: nothing is to be edited"),
        (["--remove", "linear1:0", "--draws", "0"], "edit: draws must be at least 1"),
        (["--remove", "linear1:0", "--device", "nowhere"], "--device 'nowhere' cannot be used"),
        (["--delete", "linear1:0"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(given, message, toy, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["edit", str(toy), *given, "--output", str(tmp_path / "edited")])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "edited").exists()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_a_name_that_is_taken_is_refused(make, toy, tmp_path, capsys):
    make(tmp_path / "edited")
    with pytest.raises(SystemExit):
        main(["edit", str(toy), "--remove", "linear1:0", "--output", str(tmp_path / "edited")])
    assert "exists, and nothing is overwritten; name another, or move it" in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["edit", str(tmp_path), "--remove", "linear1:0", "--output", str(tmp_path / "edited")])
    assert "is this the directory of a finished run?" in capsys.readouterr().err
