"""What the comparison of both methods says, with numbers worked out by hand."""

import csv
import json
import shutil

import pytest
import torch

from benchmarks.compare import document, growth, knobs
from benchmarks.compare.__main__ import main
from benchmarks.compare.measures import Found, features_of_their_own, hyper_parameters
from benchmarks.compare.pairs import KNOBS, PAIRS, Knob, Pair
from benchmarks.reproduce.plan import read_config
from spd_lightning import AttributedModel, DecomposedModel, ResidualMLP, ToyModelOfSuperposition
from spd_lightning.artefact.export import save_decomposition
from tests.benchmarks.fabricated import CONFIG, make_system, scores_of, write_run


def test_a_feature_has_a_component_of_its_own_if_no_other_feature_prefers_it():
    table = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.7, 0.6], [0.05, 0.0, 0.04]])
    # features 1 and 2 prefer component 1; feature 3's largest is not above the threshold
    assert features_of_their_own(table).tolist() == [True, False, False, False]


@torch.no_grad()
def _perfect(lost=False):
    """A toy model of three features in as many dimensions, a component each; or the last two features in one."""
    target = ToyModelOfSuperposition(3, 3, zero_bias=True)
    target.linear1.weight.copy_(torch.eye(3))
    model = AttributedModel(target, ["linear*"], 4, rank=2, ties={"linear2": "linear1"})
    parts = model.components["linear1"]
    parts.V.zero_()
    parts.U.zero_()
    for feature in range(3):
        component = min(feature, 1) if lost else feature
        slot = feature - component
        parts.V[feature, component, slot], parts.U[component, slot, feature] = 1.0, 1.0
    return model


def test_found_features_of_full_components(tmp_path):
    save_decomposition(_perfect(), tmp_path / "good")
    save_decomposition(_perfect(lost=True), tmp_path / "lost")
    assert Found(tmp_path / "good").own_features() == Found(tmp_path / "good").found_features() == (3, 3)
    assert Found(tmp_path / "lost").own_features() == (1, 3)
    assert Found(tmp_path / "good").parameters() == 2 * 3 * 4 * 2
    kept, ablated = Found(tmp_path / "good").scrubbed
    assert kept == pytest.approx(0, abs=1e-12)
    assert ablated == pytest.approx(0.75**2 / 3)
    assert Found(tmp_path / "good").writing() == "-"


@torch.no_grad()
def test_another_component_that_happens_to_point_along_a_column_does_not_count(tmp_path):
    model = _perfect()
    parts = model.components["linear1"]
    parts.V[0, 0], parts.U[0, 0] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.8, 0.0])  # feature 0's own is askew
    parts.V[0, 3, 0], parts.U[3, 0, 0] = 0.01, 1.0  # an idle one points along its column
    save_decomposition(model, tmp_path)
    assert Found(tmp_path).found_features() == (2, 3)


@torch.no_grad()
def test_a_writing_layer_is_split_or_shared(tmp_path):
    target = ResidualMLP(n_features=4, n_layers=1, d_mlp=3, d_embed=8)
    model = DecomposedModel(target, {"layers.*.mlp_*": 5})
    gates = model.importance_function.functions["layers.0.mlp_out"]
    for parameter in gates.parameters():
        parameter.zero_()
    for bias, value in ((gates.biases[-1], [2.0, 2.0, -1.0, -1.0, -1.0]),):
        bias.copy_(torch.tensor(value)[:, None])
    save_decomposition(model, tmp_path)
    assert Found(tmp_path).writing() == "shared: 4.0 features for each of 2"


def test_settings_are_counted_leaf_by_leaf():
    config = {
        "model": {
            "target": {"class_path": "A", "init_args": {"n": 3}},
            "recipe": {"init_args": {"steps": 3}},
            "sites": ["a", "b"],
            "k": 0.2,
            "losses": {"f": {"class_path": "Faithfulness", "init_args": {"coefficient": 1.0, "p": 2}}},
        }
    }
    assert hyper_parameters(config) == 4


def test_every_pair_and_knob_is_a_shipped_config():
    for pair in PAIRS:
        spd, apd = (read_config(system.config) for system in (pair.spd, pair.apd))
        assert apd["method"] == "apd"
        assert apd["model"]["target"] == spd["model"]["target"]
        assert apd["model"]["recipe"] == spd["model"]["recipe"]
        assert apd["data"]["init_args"]["feature_probability"] == spd["data"]["init_args"]["feature_probability"]
    for knob in KNOBS:
        sweep = read_config(f"sweeps/{knob.sweep}.yaml")
        assert knob.default in [float(value) for value in sweep["over"][knob.key]]


def test_only_finished_runs_of_the_common_seeds_count(tmp_path):
    knob = Knob("APD", "k", "sweep", "model.k", 0.5)
    folder = tmp_path / "sweep"
    cases = [
        ("good", "0.5", "0", True),
        ("lost", "1.0", "0", True),
        ("other", "1.0", "1", True),
        ("open", "2.0", "0", False),
    ]
    for name, _, _, done in cases:
        save_decomposition(_perfect(lost=name == "lost"), folder / name)
        (folder / name / "config.yaml").write_text("method: apd\n")
        if done:
            (folder / name / "metrics.json").write_text(json.dumps({"scores": {}}))
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "model.k", "seed_everything", "state"])
        writer.writerows([[name, value, seed, "finished"] for name, value, seed, _ in cases])
    rows = knobs.outcomes(knob, tmp_path)
    assert [(row["value"], row["ratio"], row["runs"]) for row in rows] == [(0.5, 1.0, 1), (1.0, 2.0, 1)]
    assert [row["share"] for row in rows] == pytest.approx([1.0, 1 / 3])
    assert knobs.outcomes(knob, tmp_path / "nothing") == []


def test_the_page_shows_both_methods_and_what_is_missing(tmp_path, monkeypatch, capsys):
    apd_config = {**CONFIG, "method": "apd", "model": {**CONFIG["model"], "sites": ["linear*"]}}
    pair = Pair(make_system(tmp_path / "c"), make_system(tmp_path / "c", name="apd_tms_5-2", config=apd_config))
    runs = tmp_path / "runs" / "reproduce"
    for name, config, ml2r in (("tms_5-2", CONFIG, 1.0), ("apd_tms_5-2", apd_config, 0.89)):
        folder = write_run(runs / name, 0, scores_of(ml2r=ml2r), config=config)
        save_decomposition(_perfect(), folder)
    cost = [
        {"method": method, "C": count, "ms": 10.0 * count, "mb": 500, "threads": 1}
        for method in growth.METHODS
        for count in growth.COUNTS
    ]
    (runs / "cost.json").write_text(json.dumps(cost))
    monkeypatch.setattr(document, "PAIRS", (pair, PAIRS[1]))

    assert main(["--table-only", "--runs", str(runs), "--output", str(tmp_path / "docs")]) == 0

    page = (tmp_path / "docs" / "comparison.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| SPD", "| APD"))]
    assert [row.split(" | ")[0] for row in rows[:4]] == ["| SPD", "| APD", "| SPD, published", "| APD, published"]
    assert "0.890 (one seed)" in rows[1]
    assert "3 of 3" in rows[1]
    assert "APD: no finished run." in page
    assert "No sweep was made." in page
    assert "| APD, rank 10 | 400 | 4000 | 500 |" in page
    assert (tmp_path / "docs" / "images" / "comparison" / "cost.png").stat().st_size > 1000
    assert "comparison.md" in capsys.readouterr().out

    shutil.rmtree(runs)
    earlier = page.replace("0.890", "0.898").replace("No sweep was made.", "Sweeps of an earlier call.")
    (tmp_path / "docs" / "comparison.md").write_text(earlier)
    assert main(["--table-only", "--keep", "--runs", str(runs), "--output", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "comparison.md").read_text() == earlier


@pytest.mark.parametrize("method", growth.METHODS)
def test_the_cost_is_that_of_real_steps(method, monkeypatch):
    monkeypatch.setattr(growth, "STEPS", 1)
    module = growth.build(method, 3)
    before = [parameter.detach().clone() for parameter in module.model.components.parameters()]
    assert growth.step_ms(module) > 0
    moved = zip(before, module.model.components.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in moved)
