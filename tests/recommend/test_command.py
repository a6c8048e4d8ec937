"""The command, and what ``fit`` makes of the config that it writes."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning.cli.command import main as fit
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.losses import Faithfulness, ImportanceMinimality, Loss, untuned_losses
from spd_lightning.methods import Merging, Optimization, Warmup
from spd_lightning.recommend import recommending
from spd_lightning.recommend.__main__ import main
from tests.networks.configs import config_of
from tests.networks.zoo import ZOO
from tests.recommend.networks import Own

MLP = """\
model:
  target: {class_path: MLP, init_args: {widths: [4, 6, 3]}}
data: {class_path: DatasetBatches, init_args: {train: {class_path: tests.recommend.networks.Points}, batch_size: 8}}
"""
TMS = """\
model:
  target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 4, n_hidden: 2}}
  sites: {linear*: 7}
data: {class_path: SparseFeatures, init_args: {n_features: 4, feature_probability: 0.2, batch_size: 64}}
"""
ATTENTION = """\
model:
  target: {class_path: AttentionOnly, init_args: {vocabulary: 5, length: 6, width: 8, n_layers: 1}}
  call: {class_path: PositionalCall, init_args: {labels: 1}}
data:
  class_path: DatasetBatches
  init_args:
    train: {class_path: InductionSequences, init_args: {vocabulary: 5, length: 6, size: 64}}
    batch_size: 8
"""
OWN = """\
seed_everything: 3
model:
  target: {class_path: tests.recommend.networks.Own, init_args: {width: 9}}
  recipe: {class_path: LoadedWeights, init_args: {path: own.pt}}
data: {class_path: DatasetBatches, init_args: {train: {class_path: tests.recommend.networks.Points}, batch_size: 8}}
"""
BARE = ["--trainer.max_steps=2", "--trainer.logger=false", "--trainer.callbacks=null"]
"""Two steps of a run that leaves nothing behind."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Own(9).state_dict(), "own.pt")
    return tmp_path


def _proposed(text, *flags):
    Path("mine.yaml").write_text(text)
    main(["--config", "mine.yaml", "--output", "out.yaml", *flags])
    return yaml.safe_load(Path("out.yaml").read_text())


@pytest.mark.parametrize("text", [MLP, TMS, ATTENTION, OWN], ids=["mlp", "tms", "attention", "own"])
def test_fit_takes_the_config_as_it_is(text, folder):
    written, given = _proposed(text), yaml.safe_load(text)
    trained = fit(["fit", "--config", "out.yaml", *BARE])

    assert trained.trainer.global_step == 2
    assert trained.model.model.sites == written["model"]["sites"]
    assert min(trained.model.model.sites.values()) >= 40
    assert trained.datamodule.batch_size == written["data"]["init_args"]["batch_size"]
    assert trained.config["fit"].trainer.max_steps == 2
    assert written["trainer"] == {"max_steps": written["trainer"]["max_steps"]}
    assert written["seed_everything"] == given.get("seed_everything", 0)
    assert trained.model.distance == ("kl" if text == ATTENTION else "mse")
    if text == OWN:
        assert torch.equal(trained.model.target.up.weight, torch.load("own.pt", weights_only=True)["up.weight"])


def test_ties_and_what_the_config_said_itself(folder, capsys):
    written = _proposed(TMS)
    out = capsys.readouterr().out

    assert written["model"]["ties"] == {"linear2": "linear1"}
    assert written["model"]["sites"] == {"linear1": 40, "linear2": 40}
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][-2:] == ["C", "given"]
    assert [rows[1][0], *rows[1][-2:]] == ["linear1", "40", "7"]
    assert "(given: 64)" in out
    comment = [line for line in Path("out.yaml").read_text().splitlines() if line.startswith("#")]
    assert (
        comment[0] == "# How to take ToyModelOfSuperposition apart, as python -m spd_lightning.recommend proposes it."
    )
    assert any(line.startswith("# max_steps: ") for line in comment)


def test_the_batch_of_a_config_without_sites_stands_beside_what_is_proposed(folder, capsys):
    _proposed(MLP)

    out = capsys.readouterr().out
    assert "(given: 8)" in out
    assert out.splitlines()[0].split()[-1] == "C"


def test_the_recipe_is_written_as_the_package_has_it(folder, monkeypatch):
    """Terms are written without what their classes have by default, everything else in full."""
    made = {"one": Faithfulness(7.0), "two": ImportanceMinimality(0.25, p=1.5)}
    recipe = {"losses": made, "init": "examples", "merging": Merging(every=7), "warmup": Warmup(lr=0.02)}
    recipe |= {"optimization": Optimization(importance_lr=0.1, clip_importance=None)}
    monkeypatch.setattr(recommending, "default_recipe", lambda distance, importance: recipe)
    model = _proposed(MLP)["model"]

    assert model["init"] == "examples"
    assert model["merging"]["every"] == 7
    assert model["warmup"] == {"steps": 0, "lr": 0.02, "weight_decay": 0.1}
    assert model["optimization"]["importance_lr"] == 0.1
    assert model["optimization"].keys() == {field.name for field in fields(Optimization)}
    assert model["losses"] == {
        "one": {"class_path": "spd_lightning.Faithfulness", "init_args": {"coefficient": 7.0}},
        "two": {"class_path": "spd_lightning.ImportanceMinimality", "init_args": {"coefficient": 0.25, "p": 1.5}},
    }


def test_what_is_written_makes_the_terms_of_the_recipe(folder):
    written = _proposed(MLP)["model"]["losses"]
    made = {name: rebuilt(term, Loss, name) for name, term in written.items()}
    assert {name: describe(loss) for name, loss in made.items()} == {
        name: describe(loss) for name, loss in untuned_losses().items()
    }
    assert (made["importance"].tolerance, made["importance"].start_factor) == (0.02, 2.5)
    assert written["importance"]["init_args"]["tolerance"] == 0.02  # the number to turn stands in the file


def test_several_configs_and_flags_of_fit(folder, capsys):
    Path("more.yaml").write_text("model: {target: {init_args: {widths: [4, 11, 3]}}}\n")
    Path("mine.yaml").write_text(MLP)
    main(["--config", "mine.yaml", "--config", "more.yaml", "--data.init_args.batch_size", "16"])
    out = capsys.readouterr().out

    assert out.splitlines()[1].split()[:4] == ["fc1", "11", "x", "4"]


def _refused(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    told = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert told[-1].startswith("error: ")
    return told[-1]


def test_an_output_that_exists_is_kept(folder, capsys):
    Path("mine.yaml").write_text(MLP)
    Path("out.yaml").write_text("mine")

    assert "'out.yaml' exists" in _refused(capsys, "--config", "mine.yaml", "--output", "out.yaml")
    assert Path("out.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("model:", "modle:"), "did you mean model?"),
        (("  target: {class_path: MLP, init_args: {widths: [4, 6, 3]}}", "  warmup: {steps: 3}"), "model.target"),
        (("class_path: MLP", "class_path: MPL"), "MPL"),
        (("widths: [4, 6, 3]", "widths: [5, 6, 3]"), "the target fails on a batch of [8, 4]"),
        (("batch_size: 8", "batch_size: 800"), "train holds 64"),
        (("model:", "method: apd\nmodel:"), "method must be 'spd'"),
        (("  target:", "  sites: {nothing: 3}\n  target:"), "'nothing' matches no module"),
    ],
)
def test_configs_that_cannot_work(change, part, folder, capsys):
    Path("mine.yaml").write_text(MLP.replace(*change))

    assert part in _refused(capsys, "--config", "mine.yaml")


def test_wrong_arguments(folder, capsys):
    Path("mine.yaml").write_text(MLP.partition("data:")[0])
    assert "data must name a data module" in _refused(capsys, "--config", "mine.yaml")
    assert "--config must name a config" in _refused(capsys)
    assert "'none.yaml' does not exist" in _refused(capsys, "--config", "none.yaml")
    Path("mine.yaml").write_text(MLP)
    assert "minutes must be a number above 0" in _refused(capsys, "--config", "mine.yaml", "--minutes", "-3")
    assert "invalid float value" in _refused(capsys, "--config", "mine.yaml", "--minutes", "soon")
    assert "fits nothing" in _refused(capsys, "--config", "mine.yaml", "--minutes", "1e-6")
    assert "--minuets" in _refused(capsys, "--config", "mine.yaml", "--minuets", "3")


ALWAYS = ("padded dictionary",)
"""Tried by every run of the tests, the others by `make reliability`."""


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.reliability) for name in ZOO]
)
def test_networks_of_every_shape(name, folder):
    """With sites found by the command itself; those of the list stand in for a network that it finds none in."""
    config = config_of(name, folder)
    model = {part: config["model"][part] for part in ("target", "recipe", "call") if part in config["model"]}
    written = _proposed(yaml.safe_dump({"model": model, "data": config["data"]}))
    trained = fit(["fit", "--config", "out.yaml", *BARE])

    assert trained.trainer.global_step == 2
    assert written["model"]["sites"] == trained.model.model.sites
    assert min(written["model"]["sites"].values()) >= 40
