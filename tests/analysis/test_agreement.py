"""Components that are found again, and those that are not."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spd_lightning import DecomposedModel, ToyModelOfSuperposition, UsageError
from spd_lightning.analysis import agreement
from spd_lightning.analysis.__main__ import main

SITES = {"linear1": 6, "linear2": 9}


def _model(seed=0, sites=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return DecomposedModel(ToyModelOfSuperposition(12, 10), sites or SITES, seed=seed)


def _all_of(model):
    return {name: torch.ones(parts.n_components, dtype=torch.bool) for name, parts in model.components.items()}


def _shuffled(model):
    """The same components in another order, longer, and with both vectors turned around."""
    other = _model()
    for name, parts in model.components.items():
        order = torch.randperm(parts.n_components)
        with torch.no_grad():
            other.components[name].V.copy_(-3 * parts.V[:, order])
            other.components[name].U.copy_(-0.5 * parts.U[order])
    return other


def test_the_same_components_are_found_whatever_their_order_and_length():
    one = _model()
    found = agreement([one, _shuffled(one)], [_all_of(one)] * 2)
    for name, site in found.items():
        assert site.mean == pytest.approx(1, abs=1e-5)
        assert site.alive.tolist() == [SITES[name]] * 2


def test_opposite_components_are_not_the_same():
    one, other = _model(), _model()
    with torch.no_grad():
        for parts in other.components.values():
            parts.V.neg_()
    found = agreement([one, other], [_all_of(one)] * 2)
    assert all(site.mean < 0.9 for site in found.values())


def test_the_mean_is_that_of_the_largest_cosines_of_matrices():
    models = [_model(seed) for seed in range(3)]
    alive = [_all_of(model) for model in models]
    alive[1]["linear1"][2:] = False
    found = agreement(models, alive)["linear1"]
    matrices = [
        torch.stack([torch.outer(parts.V[:, c], parts.U[c]).flatten() for c in range(6)])
        for parts in (model.components["linear1"] for model in models)
    ]
    kept = [matrix[mask["linear1"]] for matrix, mask in zip(matrices, alive, strict=True)]
    for first in range(3):
        for second in range(3):
            cosines = torch.cosine_similarity(kept[first][:, None], kept[second][None], dim=-1)
            assert found.best[first, second].item() == pytest.approx(cosines.amax(1).mean().item(), abs=1e-5)
    pairs = [found.best[i, j].item() for i in range(3) for j in range(3) if i != j]
    assert found.mean == pytest.approx(sum(pairs) / 6)


def test_few_cosines_at_once_give_the_same(monkeypatch):
    models = [_model(seed) for seed in range(2)]
    alive = [_all_of(model) for model in models]
    whole = agreement(models, alive)["linear2"]
    monkeypatch.setattr(sys.modules["spd_lightning.analysis.agreement"], "BLOCK", 20)
    torch.testing.assert_close(agreement(models, alive)["linear2"].best, whole.best)


def test_independent_starts_agree_as_chance_has_it():
    sites = {"linear1": 40, "linear2": 40}
    models = [_model(seed, sites) for seed in range(4)]
    for site in agreement(models, [_all_of(model) for model in models]).values():
        assert site.mean == pytest.approx(site.chance, rel=0.1)


def test_a_run_without_components_agrees_with_none():
    models = [_model(0), _model(1)]
    alive = [_all_of(models[0]), {name: torch.zeros(count, dtype=torch.bool) for name, count in SITES.items()}]
    assert all(torch.tensor(site.mean).isnan() for site in agreement(models, alive).values())


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([_model()], "needs at least two decompositions, got 1"),
        ([_model(), _model(sites={"linear1": 6})], "sites must be the same"),
    ],
)
def test_what_cannot_be_compared_is_refused(models, message):
    with pytest.raises(UsageError, match=message):
        agreement(models, [_all_of(model) for model in models])


@pytest.fixture
def runs(tmp_path):
    """Two decompositions on disk, the second the first in another order."""
    one = _model()
    for folder, model in (("first", one), ("second", _shuffled(one))):
        model.save_pretrained(tmp_path / folder)
    return [str(tmp_path / "first"), str(tmp_path / "second")]


def test_runs_are_compared_from_the_command_line(runs, tmp_path, capsys):
    main(["agreement", *runs, "--output", str(tmp_path / "found.json")])
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["linear1", "6", "6", "1.000", said[1].split()[-1]]
    assert said[-2].startswith("mean")
    assert said[-1].startswith("dead components count too in ")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["linear2"]["mean_max_cosine"] == pytest.approx(1, abs=1e-5)


def test_a_file_that_exists_is_kept(runs, tmp_path, capsys):
    (tmp_path / "found.json").write_text("mine")
    with pytest.raises(SystemExit):
        main(["agreement", *runs, "--output", str(tmp_path / "found.json")])
    said = capsys.readouterr()
    assert "exists, and nothing is overwritten" in said.err
    assert not said.out  # refused before anything is computed
    assert (tmp_path / "found.json").read_text() == "mine"


def test_the_table_is_printed_where_its_file_cannot_be_written(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(["agreement", *runs, "--output", str(tmp_path / "file" / "found.json")])
    said = capsys.readouterr()
    assert "cannot be written" in said.err
    assert said.out.startswith("site")


def test_dead_components_are_left_out(runs, capsys):
    folder = Path(runs[0]) / "analysis"
    folder.mkdir()
    save_file(
        {"linear1": torch.tensor([0.5, 0, 0, 0.1, 0, 0]), "linear2": torch.ones(9)}, folder / "density.safetensors"
    )
    main(["agreement", *runs])
    assert capsys.readouterr().out.splitlines()[1].split()[1:3] == ["2", "6"]


@pytest.mark.parametrize("given", [[], ["agreement"], ["agreement", "nowhere", "nowhere"], ["agree"]])
def test_wrong_usage_is_one_line(given, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(given)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_densities_of_other_components_are_refused(runs, capsys):
    folder = Path(runs[0]) / "analysis"
    folder.mkdir()
    save_file({"linear1": torch.ones(3)}, folder / "density.safetensors")
    with pytest.raises(SystemExit):
        main(["agreement", *runs])
    assert "does not fit the run's components" in capsys.readouterr().err
