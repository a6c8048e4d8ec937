"""The shipped toy model is taken apart from scratch; the known mechanisms are found."""

import json

import pytest
import torch
from PIL import Image

from spd_lightning import DecomposedModel
from spd_lightning.functional import identity_contradictions

pytestmark = pytest.mark.slow
SITES = ("linear1", "linear2")


@pytest.fixture(scope="module")
def document(finished_run):
    return json.loads((finished_run.folder / "metrics.json").read_text())


@pytest.mark.parametrize("site", SITES)
def test_every_mechanism_is_found_and_nothing_else(site, document):
    scores = document["scores"]

    assert scores[f"recovery/{site}/mechanisms"] == 5
    assert scores[f"recovery/{site}/identity_contradictions_0.2"] == 0
    assert scores[f"alive/{site}"] == 5
    assert scores[f"recovery/{site}/mmcs"] >= 0.999
    assert 0.97 <= scores[f"recovery/{site}/ml2r"] <= 1.03


def test_the_parts_sum_to_the_target(document):
    assert document["scores"]["ablation/unmasked"] <= 1e-5


def test_ablation_regimes_are_ordered(document):
    scores = {name.removeprefix("ablation/"): value for name, value in document["scores"].items() if "ablation" in name}

    assert scores["unmasked"] < scores["stochastic"] <= scores["worst_case"] < scores["zero"]


def test_the_console_says_so(finished_run):
    assert "Recovered: the known mechanisms of all 2 sites were found." in finished_run.output
    assert str(finished_run.folder.relative_to(finished_run.folder.parents[2])) in finished_run.output


def test_memory_stays_below_a_gigabyte(document):
    assert 100 < document["peak_memory_mb"] < 1000


def test_pictures_are_pictures(finished_run):
    names = {path.stem for path in (finished_run.folder / "figures").glob("test_*.png")}

    assert names == {
        "test_ablation_distances",
        "test_component_vectors_linear1",
        "test_importance_heatmap",
        "test_importance_histogram",
        "test_importance_spectrum",
        "test_network_diagram",
        "test_single_ablations",
    }
    for name in names:
        with Image.open(finished_run.folder / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_the_artefact_alone_shows_the_mechanisms(finished_run):
    model = DecomposedModel.from_pretrained(finished_run.folder)
    clean = model.clean(0.75 * torch.eye(5))

    importance = model.importance(clean)

    assert [identity_contradictions(importance[site].lower, 0.2) for site in SITES] == [0, 0]
    assert [int((importance[site].lower > 0.1).any(0).sum()) for site in SITES] == [5, 5]
    torch.testing.assert_close(model(0.75 * torch.eye(5)), clean.output, atol=1e-3, rtol=0)
