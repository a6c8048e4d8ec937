"""The report at the end."""

import json

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spd_lightning import Faithfulness, Reconstruction, StochasticDecomposition
from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    FinalReport,
    MechanismRecovery,
    TensorBoardLayout,
    TrainingHealth,
)
from spd_lightning.callbacks.report_table import report_table
from spd_lightning.report.rows import recovery
from spd_lightning.runs.findings import findings
from tests.callbacks.perfect import Rows, Unprobed
from tests.methods.tiny import OwnNetwork, expected_notices, features, fit, toy

LADDER = [20, 80, 320]


def _scores(site="a", mechanisms=3, alive=3, loose=0, strict=4, kind="identity"):
    return {
        f"recovery/{site}/mechanisms": float(mechanisms),
        f"recovery/{site}/{kind}_contradictions_0.1": float(strict),
        f"recovery/{site}/{kind}_contradictions_0.2": float(loose),
        f"alive/{site}": float(alive),
    }


def _scoring():
    return [ComponentActivity(0.2), AblationCheck(adversary_steps=3), MechanismRecovery(chance_draws=1), FinalReport()]


def test_recovered_means_no_contradiction_at_the_loosest_tolerance():
    assert recovery(_scores()) == "Recovered: the known mechanisms of all 1 sites were found."
    both = _scores() | _scores("b", kind="dense")
    assert recovery(both) == "Recovered: the known mechanisms of all 2 sites were found."


@pytest.mark.parametrize(
    "change", [{"loose": 1}, {"alive": 2}, {"alive": 4}, {"mechanisms": 2}], ids=lambda change: next(iter(change))
)
def test_one_site_that_was_missed_is_named(change):
    scores = _scores("a") | _scores("b", **change)

    assert recovery(scores).startswith("Not recovered: b: ")
    assert "a:" not in recovery(scores)


def test_the_strictest_tolerance_does_not_decide():
    tied = {
        "recovery/a/mechanisms": 3.0,
        "recovery/a/identity_contradictions_0.2": 0.0,
        "recovery/a/identity_contradictions_0.1": 5.0,
    }

    assert recovery(tied).startswith("Recovered")


def test_without_activity_the_pattern_decides():
    scores = _scores()
    del scores["alive/a"]

    assert recovery(scores).startswith("Recovered")


def test_a_target_of_unknown_mechanisms_has_no_recovery():
    assert recovery({"alive/a": 3.0}) == "The target states no mechanisms, so recovery was not scored."


def test_the_table_shows_every_score_in_its_place():
    module = toy(sites={"linear1": 6, "linear2": 7})
    scores = _scores("linear1", mechanisms=5, alive=6, loose=1) | {
        "recovery/linear1/mmcs": 0.99312,
        "recovery/linear1/chance_mmcs": 0.871,
        "recovery/linear1/ml2r": 1.25,
        "l0/linear1": 0.254,
        "ablation/worst_case": 0.00123,
        "ablation/unmasked": 4.4e-5,
        "ablation/zero": 0.004,
        "ablation/ladder_80": 0.002,
        "task/accuracy/target": 0.97,
        "task/cross_entropy/target": 0.21,
    }

    lines = [
        line.split()
        for line in report_table(scores, module, {"X.threshold": 0.1, "X.other": 3}, findings(scores)).splitlines()
    ]

    assert lines[1][:6] == ["site", "C", "mechanisms", "alive", "L0", "MMCS"]
    assert " ".join(lines[2]) == "linear1 6 5 6 0.25 0.993 (0.871) 1.250 identity 4 at 0.1, 1 at 0.2"
    assert lines[3] == ["linear2", "7", *"-------"], "without a column for the correlation, which no site has"
    assert ["all", "masks", "one,", "no", "delta", "4.40e-05", "1.10%", "-"] in lines
    assert ["worst", "case", "over", "a", "fresh", "adversary", "1.23e-03", "30.75%", "-"] in lines
    assert ["a", "fresh", "adversary", "after", "80", "steps,", "one", "batch", "2.00e-03", "50.00%", "-"] in lines
    assert ["the", "target", "itself", "97.0%", "0.210", "-"] in lines
    assert lines[lines.index(["measured", "with"]) + 1] == ["X", "threshold", "0.1,", "other", "3"]
    assert " ".join(lines[-3]) == "Breaks under attack: 50.00% after 80 steps of a fresh adversary (at most 25%)."
    assert lines[-2][:4] == ["Next:", "add", "a", "Reconstruction"]
    assert " ".join(lines[-1]) == (
        "Not recovered: linear1: 1 contradictions at 0.2, 6 alive for 5 mechanisms, MMCS 0.9931, ML2R 1.2500; "
        "unmasked error 4.4e-05."
    )


def test_a_table_of_nothing_measured_still_names_the_sites():
    lines = report_table({}, toy(), {}, []).splitlines()

    assert [line.split()[0] for line in lines[2:4]] == ["linear1", "linear2"]
    assert "output distance" not in "\n".join(lines)


def test_the_document_holds_scores_and_what_they_depend_on(perfect, examples, run, capsys):
    result = run(perfect, Rows(examples), *_scoring())

    document = json.loads((result.folder / "metrics.json").read_text())
    expected = {name.removeprefix("test/"): value for name, value in result.scores.items() if name.startswith("test/")}
    assert document["scores"] == expected
    assert len(expected) == 2 * (2 + 7) + 7 + len(LADDER)
    assert [finding["question"] for finding in document["verdict"]] == ["faithful", "sparse", "attack"]
    assert document["settings"] == {
        "ComponentActivity.threshold": 0.2,
        "AblationCheck.probe": 0.75,
        "AblationCheck.rounding_threshold": 0.1,
        "AblationCheck.adversary_steps": 3,
        "AblationCheck.adversary_step_size": 0.1,
        "AblationCheck.ladder": LADDER,
        "AblationCheck.distance": "mse",
        "MechanismRecovery.alive_threshold": 0.1,
        "MechanismRecovery.tolerances": [0.1, 0.2],
        "MechanismRecovery.probe": 0.75,
    }
    assert (document["seed"], document["steps"], document["processes"], document["device"]) == (0, 0, 1, "cpu")
    assert document["versions"]["torch"] == torch.__version__
    assert document["peak_memory_mb"] > 10
    printed = capsys.readouterr().out
    assert "Recovered: the known mechanisms of all 2 sites were found." in printed
    assert f"Scores, pictures and components are in {result.folder}" in printed
    assert "adversary_steps 3, adversary_step_size 0.1" in printed


@pytest.mark.parametrize("trained", ["mse", "kl"])
def test_the_distance_that_is_trained_is_measured_and_named(trained, examples, run, capsys):
    losses = {"faithfulness": Faithfulness(), "stochastic": Reconstruction(distance=trained)}
    result = run(toy(losses=losses), features(), AblationCheck(adversary_steps=3), TrainingHealth(), FinalReport())
    named = run(toy(losses=losses), features(), AblationCheck(distance=trained, adversary_steps=3))

    settings = json.loads((result.folder / "metrics.json").read_text())["settings"]
    printed = capsys.readouterr().out
    assert settings["AblationCheck.distance"] == settings["TrainingHealth.distance"] == trained
    assert f"output distance ({trained}) from the target under" in printed
    assert f"distance {trained}" in printed
    assert "None" not in printed
    distances = [{k: v for k, v in found.scores.items() if "ablation" in k} for found in (result, named)]
    assert len(distances[0]) == 7 + len(LADDER)
    assert distances[0] == distances[1]


def test_a_distance_of_one_s_own_is_named(examples, run, capsys):
    losses = {"faithfulness": Faithfulness(), "stochastic": Reconstruction(distance="kl")}

    run(toy(losses=losses), features(), AblationCheck(distance="mse", adversary_steps=3), FinalReport())

    assert "output distance (mse) from the target under" in capsys.readouterr().out


def test_a_decomposition_that_is_not_there_yet_is_not_called_recovered(examples, run, capsys):
    module = StochasticDecomposition(toy(sites={"linear*": 3}).target, {"linear*": 3})

    run(module, features(), *_scoring())

    assert "Not recovered: linear1: " in capsys.readouterr().out


def test_a_network_of_ones_own_is_reported_without_recovery(examples, run, capsys):
    module = StochasticDecomposition(OwnNetwork(width=3), {"head": 3})

    run(module, Unprobed(examples), ComponentActivity(), AblationCheck(), FinalReport())

    printed = capsys.readouterr().out
    assert "The target states no mechanisms, so recovery was not scored." in printed
    assert "worst case over a fresh adversary" in printed


def test_a_validation_inside_training_is_no_final_report(tmp_path, capsys):
    fit(toy(), features(), tmp_path, callbacks=_scoring(), val_check_interval=2, limit_val_batches=None)

    assert not (tmp_path / "metrics.json").exists()
    assert "Recovered" not in capsys.readouterr().out


def test_training_time_adds_up_over_resumed_parts(tmp_path):
    first, second = FinalReport(), FinalReport()
    first.load_state_dict({"trained_s": 1000.0})
    trainer = fit(toy(), features(), tmp_path, max_steps=2, callbacks=[first])
    trainer.save_checkpoint(tmp_path / "two.ckpt")

    trainer = fit(toy(), features(), tmp_path, tmp_path / "two.ckpt", max_steps=4, callbacks=[second])
    with expected_notices():
        trainer.test(toy(), datamodule=features(), verbose=False)

    document = json.loads((tmp_path / "metrics.json").read_text())
    assert 1000.0 <= document["wall_time_s"] < 1100.0
    assert document["wall_time_s"] == pytest.approx(second.state_dict()["trained_s"], abs=0.06)


def test_a_test_of_its_own_has_its_verdict_in_tensorboard_and_no_charts(perfect, examples, run, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False)

    run(perfect, Rows(examples), TensorBoardLayout(), *_scoring(), logger=logger)

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert events.Tags()["scalars"] == []
    assert events.Tags()["tensors"] == ["verdict/text_summary", "scores/text_summary"]
    assert (tmp_path / "run" / "hparams.yaml").is_file()
    assert (tmp_path / "run" / "metrics.json").is_file()
