"""What each command leaves behind."""

import csv
import json

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, StochasticDecomposition
from spd_lightning.cli.command import main
from tests.comparison import scalars

RUN = "runs/tiny/version_0"
LAST = f"{RUN}/checkpoints/last.ckpt"


def _parameters(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def _interrupt_at_step_4(run):
    with pytest.raises(SystemExit) as stopped:
        run("fit", "--trainer.callbacks+=tests.cli.stopper.StopAfter", "--trainer.callbacks.steps=4")
    assert stopped.value.code == 130


def test_sigterm_after_training_ends_with_the_code_of_an_interrupt(run):
    with pytest.raises(SystemExit) as stopped:
        run("fit", "--trainer.callbacks+=tests.cli.stopper.Terminate")
    assert stopped.value.code == 130


def test_fit_leaves_a_complete_run_directory(run, folder, capsys):
    cli = run("fit")

    names = {path.name for path in (folder / RUN).iterdir()}
    assert {"config.yaml", "checkpoints", "figures", "metrics.json", "components.safetensors", "config.json"} <= names
    assert "report.html" in names
    assert {path.name for path in (folder / RUN / "checkpoints").iterdir()} >= {"last.ckpt"}
    assert all(path.stat().st_size > 1000 for path in (folder / RUN / "figures").iterdir())
    report = capsys.readouterr().out
    assert "MMCS (chance)" in report
    assert "worst case over a fresh adversary" in report
    assert cli.trainer.global_step == 6


def test_metrics_hold_scores_thresholds_seed_and_versions(run, folder):
    run("fit", "--seed_everything=3")

    document = json.loads((folder / RUN / "metrics.json").read_text())
    assert document["seed"] == 3
    assert document["steps"] == 6
    assert document["settings"]["ComponentActivity.threshold"] == 0.1
    assert document["settings"]["AblationCheck.adversary_steps"] == 20
    assert set(document["versions"]) == {"spd_lightning", "torch", "lightning", "python"}
    assert document["wall_time_s"] > 0
    assert document["peak_memory_mb"] > 10
    regimes = ("unmasked", "ci_masked", "rounded", "stochastic", "zero", "worst_case")
    assert all(document["scores"][f"ablation/{name}"] >= 0 for name in regimes)
    assert document["scores"]["recovery/linear1/mechanisms"] == 3


def test_one_seed_reaches_components_and_data(run):
    first, again, other = run("fit"), run("fit"), run("fit", "--seed_everything=1")

    assert first.model.hparams.seed == 0
    assert other.model.hparams.seed == 1
    _assert_same(_parameters(first.model), _parameters(again.model))
    assert not torch.equal(first.model.model.components["linear1"].V, other.model.model.components["linear1"].V)
    batches = [cli.datamodule.batch("train", 0, 8) for cli in (first, again, other)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_saved_config_repeats_the_run(run, folder):
    first = run("fit", "--model.optimization.lr=0.02")

    again = main(["fit", f"--config={RUN}/config.yaml"])

    assert yaml.safe_load((folder / RUN / "config.yaml").read_text())["model"]["optimization"]["lr"] == 0.02
    _assert_same(_parameters(first.model), _parameters(again.model))


def test_continuing_from_last_equals_never_stopping(run, folder):
    straight = run("fit", "--trainer.logger.init_args.name=straight")

    # not by a shorter max_steps: schedules span it
    _interrupt_at_step_4(run)
    resumed = run("fit", "--ckpt_path=last")

    assert resumed.trainer.global_step == 6
    _assert_same(_parameters(straight.model), _parameters(resumed.model))
    assert (folder / RUN / "config.resumed-1.yaml").is_file()
    assert not (folder / "runs/tiny/version_1").exists()
    assert [path.name for path in (folder / RUN / "checkpoints").glob("last*")] == ["last.ckpt"]
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 6


def test_checkpoint_never_overrides_the_command_line(run):
    _interrupt_at_step_4(run)

    resumed = run("fit", "--ckpt_path=last", "--model.optimization.clip_components=0.5")

    assert resumed.model.optimization.clip_components == 0.5


def test_checkpoints_load_without_pickle_and_rebuild_the_module(run, folder):
    cli = run("fit")

    assert "state_dict" in torch.load(folder / LAST, weights_only=True)
    module = StochasticDecomposition.load_from_checkpoint(folder / LAST)

    _assert_same(_parameters(cli.model), _parameters(module))
    assert module.optimization == cli.model.optimization


def test_checkpoint_without_target_is_completed_by_the_recipe(run, folder):
    run("fit", "--model.save_target=false")

    state = torch.load(folder / LAST, weights_only=True)["state_dict"]
    tested = main(["test", f"--ckpt_path={LAST}"])

    assert not any(name.startswith("model.target") for name in state)
    assert "recovery/linear1/mmcs" in json.loads((folder / RUN / "test/version_0/metrics.json").read_text())["scores"]
    assert tested.model.target.linear1.weight.norm() > 0.5


def test_test_repeats_the_scores_of_fit(run, folder, capsys):
    run("fit")
    after_fit = json.loads((folder / RUN / "metrics.json").read_text())["scores"]
    capsys.readouterr()

    main(["test", f"--ckpt_path={LAST}"])

    scores = json.loads((folder / RUN / "test/version_0/metrics.json").read_text())["scores"]
    assert scores == pytest.approx(after_fit, rel=1e-4, abs=1e-9)
    assert "tiny/version_0/test/version_0" in (folder / RUN / "test/version_0/report.html").read_text()
    assert "linear2" in capsys.readouterr().out


def test_validate_reports_on_validation_batches(run, capsys):
    run("fit")
    capsys.readouterr()

    main(["validate", f"--ckpt_path={LAST}"])

    assert "all masks one, no delta" in capsys.readouterr().out


def test_predict_writes_a_table(run, folder):
    cli = run("fit")
    inputs = torch.rand(5, 3)
    (folder / "x.csv").write_text("a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in inputs.tolist()))

    main(["predict", f"--ckpt_path={LAST}", "--input=x.csv", "--output=ci.csv"])

    with (folder / "ci.csv").open() as file:
        rows = list(csv.DictReader(file))
    model = cli.model.model
    expected = model.importance_of(inputs)["linear2"].lower
    assert len(rows) == 5
    assert list(rows[0])[:2] == ["example", "linear1:0"]
    got = torch.tensor([[float(row[f"linear2:{index}"]) for index in range(4)] for row in rows])
    torch.testing.assert_close(got, expected.detach())


def test_predict_writes_tensors_of_any_leading_shape(run, folder):
    run("fit")
    torch.save(torch.rand(2, 4, 3), folder / "x.pt")

    main(["predict", f"--ckpt_path={LAST}", "--input=x.pt", "--output=ci.pt"])

    saved = torch.load(folder / "ci.pt", weights_only=True)
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        "linear1": torch.Size([2, 4, 4]),
        "linear2": torch.Size([2, 4, 4]),
    }


def test_predict_without_input_uses_the_probes(run, folder):
    run("fit")

    before = sorted((folder / RUN).iterdir())
    main(["predict", f"--ckpt_path={LAST}"])
    assert sorted((folder / RUN).iterdir()) == before

    assert len((folder / "importances.csv").read_text().splitlines()) == 1 + 3


def test_artefact_restores_the_same_numbers(run, folder):
    cli = run("fit")
    x = torch.rand(6, 3)

    restored = DecomposedModel.from_pretrained(folder / RUN)

    _assert_same(_parameters(cli.model.model), _parameters(restored))
    torch.testing.assert_close(restored(x), cli.model.model(x))


def test_scalars_of_training_and_validation(run, folder):
    run("fit", "--trainer.callbacks+=TrainingLog", "--trainer.callbacks.every_n_steps=2")

    logged = scalars(folder / RUN)
    assert logged["train/loss"][0][0] == 1
    assert {"train/faithfulness", "train/stochastic", "train/layerwise", "train/importance", "train/lr"} <= set(logged)
    assert [step for step, _ in logged["val/l0/linear1"]] == [3, 6]
    wanted = {"val/alive/linear1", "val/recovery/linear1/mmcs", "val/recovery/linear1/chance_mmcs"}
    wanted |= {
        "val/recovery/linear2/ml2r",
        "val/ablation/worst_case",
        "val/recovery/linear2/identity_contradictions_0.2",
    }
    assert wanted <= set(logged)


def test_divergence_names_term_and_step_and_keeps_checkpoints(run, folder, refused):
    _interrupt_at_step_4(run)
    before = (folder / LAST).read_bytes()

    with pytest.raises(SystemExit) as stopped:
        run("fit", "--ckpt_path=last", "--trainer.callbacks+=tests.cli.stopper.Poison")

    assert stopped.value.code == 2
    assert (folder / LAST).read_bytes() == before


def test_divergence_message(run, capsys):
    with pytest.raises(SystemExit):
        run("fit", "--trainer.callbacks+=tests.cli.stopper.Poison")

    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "loss term 'faithfulness' became nan at step 1" in line


def test_print_config_is_complete_and_help_reads(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config=tms.yaml", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert printed["model"]["sites"] == {"linear1": 40, "linear2": 40}
    assert printed["trainer"]["inference_mode"] is False

    with pytest.raises(SystemExit):
        main(["fit", "--help.all"])
    text = " ".join(capsys.readouterr().out.split())
    assert "patterns of module paths to components per site" in text


def test_without_losses_an_untuned_objective_is_trained(folder):
    losses = StochasticDecomposition(torch.nn.Sequential(torch.nn.Linear(3, 2)), {"0": 2}).terms()

    assert list(losses) == ["faithfulness", "stochastic", "adversary", "importance", "contributions"]
    assert losses["stochastic"].relative
    assert losses["adversary"].relative
