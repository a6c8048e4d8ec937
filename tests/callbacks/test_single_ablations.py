"""What ablating one component changes: against the slow way, and within memory however wide a site is."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from spd_lightning import StochasticDecomposition
from spd_lightning.callbacks import AblationCheck, single_ablations
from spd_lightning.callbacks.single_ablations import single_ablations as ablate_singly
from spd_lightning.model import SiteMask
from spd_lightning.targets import HandMadeInduction
from tests.callbacks.perfect import Rows, Unprobed


def _slowly(model, probes, site, component):
    """The output of all components but one."""
    masks = {name: SiteMask(parts.V.new_ones(parts.n_components)) for name, parts in model.components.items()}
    masks[site].components[component] = 0
    return model.masked(probes, masks).output


@pytest.mark.parametrize("at_once", [1, 50, 2**24])
@pytest.mark.parametrize("site", ["linear1", "linear2"])
def test_each_column_is_one_ablation(site, at_once, make_model, monkeypatch):
    monkeypatch.setattr(single_ablations, "NUMBERS_AT_ONCE", at_once)
    model, probes = make_model(), torch.eye(5, dtype=torch.float64)
    live = [0, 2]

    found = ablate_singly(model, probes, model.importance_of(probes), site, live, "mse")

    for column, component in enumerate(live):
        change = _slowly(model, probes, site, component) - model(probes)
        torch.testing.assert_close(found.squared[:, column], change.square().mean(-1))
        torch.testing.assert_close(found.change[column], change.abs().mean(0))
        torch.testing.assert_close(found.distance[column], change.square().mean())
    assert found.squared.abs().min() > 0


def test_none_to_ablate_gives_empty_tables(make_model):
    model, probes = make_model(), torch.eye(5, dtype=torch.float64)

    squared, change, distance = ablate_singly(model, probes, model.importance_of(probes), "linear1", [], "mse")

    assert (squared.shape, change.shape, distance.shape) == ((5, 0), (0, 5), (0,))


def test_what_ablating_changes_is_kept_in_the_components_places(perfect, examples, run):
    folder = run(perfect, Rows(examples), AblationCheck()).folder

    kept = load_file(folder / "analysis/ablations.safetensors")
    assert set(kept) == {f"{part}/{site}" for part in ("change", "distance") for site in ("linear1", "linear2")}
    change, distance = kept["change/linear1"], kept["distance/linear1"]
    # without component c nothing of feature c arrives: 0.75 on one of three probes
    torch.testing.assert_close(change[:3], 0.25 * torch.eye(3))
    torch.testing.assert_close(distance[:3], torch.full((3,), 0.75**2 / 9))
    assert change[3].isnan().all()  # it never acts, and was not ablated
    assert distance[3].isnan()


def test_what_was_ablated_is_said_beside_it(perfect, examples, run):
    folder = run(perfect, Rows(examples), AblationCheck()).folder

    with safe_open(folder / "analysis/ablations.safetensors", "pt") as file:
        about = json.loads(file.metadata()["ablations"])
    assert about["weights"] is not None
    assert {name: about[name] for name in ("format", "step", "distance", "probes")} == {
        "format": 1,
        "step": 0,
        "distance": "mse",
        "probes": 3,
    }


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_probes_of_tokens_are_ablated_at_every_position(at_once, monkeypatch):
    monkeypatch.setattr(single_ablations, "NUMBERS_AT_ONCE", at_once)
    module = StochasticDecomposition(HandMadeInduction(4, 5), {"layers.*.v": 3})
    module.setup("test")
    probes = module.target.probes()[:4]

    found = ablate_singly(module.model, probes, module.model.importance_of(probes), "layers.0.v", [2, 0], "kl")

    whole = module.model(probes).log_softmax(-1)
    for row, component in enumerate([2, 0]):
        output = _slowly(module.model, probes, "layers.0.v", component)
        expected = (whole.exp() * (whole - output.log_softmax(-1))).sum(-1).mean()
        torch.testing.assert_close(found.distance[row], expected)
        change = (output - module.model(probes)).abs()
        torch.testing.assert_close(found.change[row], change.reshape(-1, change.shape[-1]).mean(0))


def test_without_probes_nothing_is_kept(perfect, examples, run):
    folder = run(perfect, Unprobed(examples), AblationCheck()).folder

    assert not (folder / "analysis/ablations.safetensors").exists()
