"""Residual MLPs in miniature, from scratch: one component per feature and layer, and blocks that act as one."""

import json
from pathlib import Path

import pytest

from spd_lightning.cli.command import main
from spd_lightning.runs.verdict import shortfalls

pytestmark = pytest.mark.slow
SIZES = {"mini/residual_mlp_1.yaml": (1, 20), "mini/residual_mlp_2.yaml": (2, 40), "mini/residual_mlp_3.yaml": (3, 40)}
"""Layers and features."""


LONG = "mini/residual_mlp_3.yaml"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.reliability if name == LONG else ()) for name in SIZES],
)
def system(request):
    return request.param


@pytest.fixture(scope="module")
def run_folder(system, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("miniature"))
        patch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        cli = main(["fit", "--config", system, "--trainer.enable_progress_bar=false"])
        return Path(cli.trainer.log_dir).absolute()


@pytest.fixture(scope="module")
def scores(run_folder):
    return json.loads((run_folder / "metrics.json").read_text())["scores"]


@pytest.fixture(scope="module")
def layers(system):
    return [f"layers.{layer}" for layer in range(SIZES[system][0])]


def test_every_feature_has_its_component_and_the_output_matrix_is_one_block(system, scores, layers):
    assert shortfalls(scores) == []
    for layer in layers:
        assert scores[f"recovery/{layer}.mlp_in/mechanisms"] == scores[f"alive/{layer}.mlp_in"] == SIZES[system][1]
        assert scores[f"recovery/{layer}.mlp_out/dense_contradictions_0.2"] == 0


def test_components_contribute_to_neurons_what_the_target_does(scores, layers):
    for layer in layers:
        assert scores[f"recovery/{layer}.mlp_in/pearson"] >= 0.99


def test_ablation_regimes_are_ordered(scores):
    regimes = {name: scores[f"ablation/{name}"] for name in ("unmasked", "stochastic", "worst_case", "zero")}

    assert regimes["unmasked"] < regimes["stochastic"] <= regimes["worst_case"] < regimes["zero"]
