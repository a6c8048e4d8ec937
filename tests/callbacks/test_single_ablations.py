"""What ablating one component changes: against the slow way, and within memory however wide a site is."""

from types import SimpleNamespace

import pytest
import torch

from spd_lightning.callbacks import ablation_check
from spd_lightning.model import SiteMask


@pytest.mark.parametrize("at_once", [1, 25, 2**24])
@pytest.mark.parametrize("site", ["linear1", "linear2"])
def test_each_column_is_one_ablation(site, at_once, make_model, monkeypatch):
    monkeypatch.setattr(ablation_check, "NUMBERS_AT_ONCE", at_once)
    model, probes = make_model(), torch.eye(5, dtype=torch.float64)
    live = [0, 2]

    found = ablation_check._single_ablations(SimpleNamespace(model=model), probes, site, live)

    for column, component in enumerate(live):
        masks = {name: SiteMask(parts.V.new_ones(parts.n_components)) for name, parts in model.components.items()}
        masks[site].components[component] = 0
        expected = (model.masked(probes, masks).output - model(probes)).square().mean(-1)
        torch.testing.assert_close(found[:, column], expected)
    assert found.abs().min() > 0
