"""The older method by the same commands: its config, its run directory, its refusals."""

import csv
import json

import pytest
import torch
import yaml

from spd_lightning import (
    AttributedModel,
    AttributionDecomposition,
    DecomposedModel,
    StochasticDecomposition,
    UsageError,
)
from spd_lightning.cli.method_choice import chosen_method
from tests.cli.conftest import TRAINER
from tests.tiny_system import ATTRIBUTION_MODEL, DATA

RUN = "runs/tiny/version_0"


@pytest.fixture
def folder(folder):
    (folder / "spd.yaml").write_text((folder / "tiny.yaml").read_text())
    (folder / "tiny.yaml").write_text(TRAINER + ATTRIBUTION_MODEL + DATA)
    return folder


def test_fit_leaves_a_complete_run_directory(run, folder, capsys):
    cli = run("fit")
    assert type(cli.model) is AttributionDecomposition
    names = {path.name for path in (folder / RUN).iterdir()}
    assert {"config.yaml", "metrics.json", "components.safetensors", "config.json", "report.html"} <= names
    assert yaml.safe_load((folder / RUN / "config.yaml").read_text())["method"] == "apd"
    assert "ML2R" in capsys.readouterr().out
    scores = json.loads((folder / RUN / "metrics.json").read_text())["scores"]
    assert scores["l0/linear1"] == scores["l0/linear2"] == pytest.approx(int(0.9 * 8) / 8)
    assert {"recovery/linear1/mmcs", "ablation/worst_case", "alive/linear2"} <= set(scores)
    assert (folder / RUN / "figures" / "test_importance_heatmap.png").stat().st_size > 1000


def test_the_artefact_gives_back_the_components(run, folder):
    cli = run("fit")
    model = AttributedModel.from_pretrained(folder / RUN)
    x = torch.rand(6, 3)
    assert torch.equal(model.attributed(x).scores, cli.model.model.attributed(x).scores)
    assert (model.rank, model.n_components, model.ties) == (None, 4, {"linear2": "linear1"})
    with pytest.raises(UsageError, match=r"'apd', not 'spd'; use AttributedModel\.from_p"):
        DecomposedModel.from_pretrained(folder / RUN)


def test_an_artefact_that_declares_more_than_it_holds_is_refused(run, folder):
    run("fit")
    path = folder / RUN / "config.json"
    original = path.read_text()
    config = json.loads(original)
    for site in config["sites"].values():
        site["C"] = 10**7
    for wrong in (config | {"n_components": 10**7}, json.loads(original) | {"n_components": 10**7}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(UsageError, match="sites declares"):
            AttributedModel.from_pretrained(folder / RUN)


def test_an_interrupted_run_goes_on_to_the_same_end(run, folder):
    straight = run("fit")
    with pytest.raises(SystemExit) as stopped:
        run("fit", "--trainer.callbacks+=tests.cli.stopper.StopAfter", "--trainer.callbacks.steps=4")
    assert stopped.value.code == 130
    resumed = run("fit", "--resume=auto")
    assert resumed.trainer.global_step == 6
    for name, parameter in straight.model.model.components.named_parameters():
        assert torch.equal(parameter, dict(resumed.model.model.components.named_parameters())[name]), name


def test_test_and_predict_find_the_method_in_the_run(run, folder, capsys):
    run("fit")
    run("test", f"--ckpt_path={RUN}/checkpoints/last.ckpt")
    run("predict", f"--ckpt_path={RUN}/checkpoints/last.ckpt")
    assert "Attributions, as shares of each example's largest, of all sites are in" in capsys.readouterr().out
    with (folder / "importances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if ":" in name] == [f"all sites:{component}" for component in range(4)]
    assert all(max(float(row[f"all sites:{c}"]) for c in range(4)) == 1.0 for row in rows)


def test_the_last_word_on_the_method_counts(folder):
    apd, spd = f"--config={folder / 'tiny.yaml'}", f"--config={folder / 'spd.yaml'}"
    assert chosen_method(["fit", apd]) is AttributionDecomposition
    assert chosen_method(["fit", spd]) is StochasticDecomposition
    assert chosen_method(["fit", apd, spd]) is AttributionDecomposition  # the second says nothing about it
    assert chosen_method(["fit", apd, "--method=spd"]) is StochasticDecomposition
    assert chosen_method(["fit", spd, "--method", "apd"]) is AttributionDecomposition


REFUSED = {
    "no such method": (["--method=vpd"], "method must be"),
    "k of 0": (["--model.k=0"], "k must be above 0 and at most n_components (4), got 0"),
    "k above C": (["--model.k=4.5"], "k must be above 0 and at most n_components (4), got 4.5"),
    "no k": (["--model.k=null"], "model.k"),
    "rank above the matrix": (["--model.rank=5"], "rank must be at most 4, one above that of the weight of 'linear1'"),
    "rate of gates": (["--model.optimization.importance_lr=1e-3"], "optimization: importance_lr, clip_importance and"),
    "decay of gates": (["--model.optimization.importance_weight_decay=0.1"], "are for predicted importances"),
    "gates": (["--model.importance=PerSite"], "importance"),
    "loss of gates": (
        ["--model.losses={'i': {'class_path': 'ImportanceMinimality'}}"],
        "'i' is a ImportanceMinimality",
    ),
    "pattern matches nothing": (["--model.sites=['linaer1']", "--model.ties=null"], "did you mean 'linear"),
    "site of another kind": (
        ["--model.sites=['hidden_layers']", "--model.ties=null"],
        "'hidden_layers' is a ModuleList",
    ),
    "evaluation without gradients": (["--trainer.inference_mode=true"], "set trainer.inference_mode: false"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_in_one_line(case, refused):
    arguments, said = REFUSED[case]
    assert said in refused("fit", *arguments)


def test_a_run_of_the_other_method_is_not_continued(run, refused, folder):
    run("fit")
    (folder / "tiny.yaml").write_text((folder / "spd.yaml").read_text())
    assert "was made by method 'apd', not 'spd'" in refused("fit", f"--ckpt_path={RUN}/checkpoints/last.ckpt")


def test_a_value_that_is_none_hides_no_method(tmp_path):
    path = tmp_path / "apd.yaml"
    path.write_text("method: apd\ntrainer: {logger: {init_args: {version: 2024-31-12}}}\n")
    assert chosen_method(["fit", f"--config={path}"]) is AttributionDecomposition
