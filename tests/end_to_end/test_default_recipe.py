"""The default recipe, put after a config of another, takes the toy model apart without being told how."""

import json
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from spd_lightning import ConstrainedImportance, SiteTransformer, StochasticDecomposition, default_recipe
from spd_lightning.cli.command import main
from spd_lightning.cli.shipped import shipped_configs
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.losses import Loss
from spd_lightning.runs.verdict import shortfalls

pytestmark = pytest.mark.slow
LAST = (0.87, 0.9, 0.93, 0.97, 1.0)
"""Fractions of training of the last five points that are logged."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    short = ["--trainer.max_steps", "3000", "--trainer.enable_progress_bar=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("default"))
        cli = main(["fit", "--config", "tms.yaml", "--config", "default.yaml", *short])
        return Path(cli.trainer.log_dir).resolve()


def _price(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return ConstrainedImportance(**config["model"]["losses"]["importance"]["init_args"])


def test_every_mechanism_is_found_and_nothing_else(folder):
    scores = json.loads((folder / "metrics.json").read_text())["scores"]

    assert shortfalls(scores) == []
    assert scores["alive/linear1"] == scores["alive/linear2"] == 5


def test_the_error_arrives_at_what_is_tolerated_and_the_price_moves_for_it(folder):
    events = EventAccumulator(str(folder)).Reload()
    errors, prices = (
        [point.value for point in events.Scalars(f"train/{name}")] for name in ("stochastic", "importance_price")
    )

    assert len(prices) == len(errors) == 31
    # points are single batches, and errors lag a little behind what is tolerated while it falls
    assert sum(errors[-5:]) == pytest.approx(sum(map(_price(folder).tolerance_at, LAST)), rel=0.25)
    assert max(prices) > 1.5 * prices[-1] > 100 * prices[0]


def _model(capsys, *configs):
    with pytest.raises(SystemExit):
        main(["fit", *(f"--config={name}" for name in configs), "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)["model"]


def test_it_is_the_same_after_every_config(capsys):
    """But for the network, its sites and how it is called."""
    shipped = sorted(shipped_configs().glob("*.yaml")) + sorted((shipped_configs() / "lm").glob("*.yaml"))
    whole = [path for path in shipped if "target:" in path.read_text()]
    models = [_model(capsys, path, "default.yaml") for path in whole]

    assert len(models) > 10
    for model in models:
        for own in ("target", "sites", "recipe", "call", "ties", "save_target"):
            model.pop(own)
        assert model == models[0]


def test_for_logits_nothing_but_the_distance_is_another(capsys):
    one = _model(capsys, "digits.yaml", "default.yaml")
    other = _model(capsys, "digits.yaml", "default.yaml", "default_logits.yaml")

    for term in ("stochastic", "adversary"):
        assert one["losses"][term]["init_args"].pop("distance") == "mse"
        assert other["losses"][term]["init_args"].pop("distance") == "kl"
    assert one == other


def test_for_sequences_nothing_but_the_importance_function_is_another(capsys):
    one = _model(capsys, "induction_by_hand.yaml", "default.yaml")
    other = _model(capsys, "induction_by_hand.yaml", "default.yaml", "default_sequences.yaml")

    assert {name for name in one if one[name] != other[name]} == {"importance", "optimization"}
    assert other["importance"]["class_path"] == "spd_lightning.SiteTransformer"
    assert other["optimization"] == {**one["optimization"], "importance_lr": 3e-3}


IN_PYTHON = ("losses", "importance", "leak", "use_delta", "init", "warmup", "merging", "optimization")


@pytest.mark.parametrize(
    ("configs", "given"),
    [
        (["tms.yaml", "default.yaml"], ()),
        (["digits.yaml", "default.yaml", "default_logits.yaml"], ("kl",)),
        (
            ["induction_by_hand.yaml", "default.yaml", "default_logits.yaml", "default_sequences.yaml"],
            ("kl", SiteTransformer),
        ),
    ],
)
def test_python_has_the_same_recipe(configs, given, capsys):
    wanted = _model(capsys, *configs)
    terms = {name: describe(rebuilt(term, Loss, name)) for name, term in wanted["losses"].items()}
    module = StochasticDecomposition(nn.Sequential(nn.Linear(4, 4)), {"0": 3}, **default_recipe(*given))

    for name in IN_PYTHON:
        assert module.arguments()[name] == (wanted | {"losses": terms})[name], name
    for name, term in wanted["losses"].items():  # as the file has them, not only as both are described
        numbers = {key: value for key, value in term["init_args"].items() if isinstance(value, float)}
        assert terms[name]["init_args"].items() >= numbers.items(), name
