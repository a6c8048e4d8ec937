"""``fit --resume auto`` and ``fit --init_from``."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

from spd_lightning import StochasticDecomposition
from spd_lightning.cli.command import main

RUN = "runs/tiny/version_0"
LAST = f"{RUN}/checkpoints/last.ckpt"
QUICK = (
    "--trainer.callbacks=[InterruptGuard, ExportDecomposition, FinalReport]",
    "--trainer.callbacks+=Checkpoints",
    "--trainer.callbacks.every_n_train_steps=2",
)
STOPPED = ("--trainer.callbacks+=tests.cli.stopper.StopAfter", "--trainer.callbacks.steps=5")


@pytest.fixture
def fit(run):
    """``fit`` with few callbacks."""
    return lambda *args: run("fit", *QUICK, *args)


@pytest.fixture
def stopped(fit):
    """A run that was stopped after 5 of its 6 steps."""
    with pytest.raises(SystemExit) as ended:
        fit(*STOPPED)
    assert ended.value.code == 130


def _files(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_auto_starts_anew_where_there_is_nothing(fit, folder):
    cli = fit("--resume=auto")

    assert cli.trainer.global_step == 6
    assert "resume" not in yaml.safe_load((folder / RUN / "config.yaml").read_text())


def test_auto_goes_on_and_says_from_where(stopped, fit, folder, capsys):
    capsys.readouterr()

    cli = fit("--resume=auto")

    assert f"goes on from {LAST}, step 5 of 6" in capsys.readouterr().err
    assert cli.trainer.global_step == 6
    assert [path.name for path in (folder / "runs/tiny").iterdir()] == ["version_0"]
    assert sorted(path.name for path in (folder / RUN / "checkpoints").iterdir()) == [
        "last.ckpt",
        "step=2.ckpt",
        "step=4.ckpt",
        "step=6.ckpt",
    ]


def test_checkpoints_hold_the_step_they_are_named_by(fit, folder):
    fit("--trainer.val_check_interval=2")

    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob(f"{RUN}/*/*.ckpt")}

    assert steps == {"step=2.ckpt": 2, "step=4.ckpt": 4, "step=6.ckpt": 6, "last.ckpt": 6}


def test_a_finished_run_is_left_as_it_is_but_for_a_missing_report(run, folder, capsys):
    run("fit", "--trainer.max_steps=2", "--trainer.val_check_interval=2")
    before = _files(folder / "runs")
    capsys.readouterr()

    cli = run("fit", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--resume=auto")

    assert cli.trainer.global_step == 0
    assert "version_0 is finished: nothing to train" in capsys.readouterr().err
    assert _files(folder / "runs") == before

    (folder / RUN / "report.html").unlink()
    run("fit", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--resume=auto")

    assert "report.html was missing and is written" in capsys.readouterr().out
    after = _files(folder / "runs")
    assert {path.name for path in before if after[path] != before[path]} == {"report.html"}


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-500])


def _one_bit(path):
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["state_dict"]["model.components.linear1.V"]
    place = bytes(content).index(weights.numpy().tobytes()[:16])
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _one_bit])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(damage, stopped, fit, folder, capsys):
    damage(folder / LAST)
    capsys.readouterr()

    cli = fit("--resume=auto")

    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"checkpoint '{LAST}' is damaged") for line in lines)
    assert any(f"goes on from {RUN}/checkpoints/step=4.ckpt, step 4 of 6" in line for line in lines)
    assert cli.trainer.global_step == 6


def test_nothing_intact_starts_anew_beside_it_and_says_so(stopped, fit, folder, capsys):
    for path in (folder / RUN / "checkpoints").iterdir():
        _truncate(path)
    before = _files(folder / RUN)

    assert fit("--resume=auto").trainer.global_step == 6
    assert f"{RUN} holds no intact checkpoint to go on from; a new run starts" in capsys.readouterr().err
    assert _files(folder / RUN) == before
    assert (folder / "runs/tiny/version_1/metrics.json").exists()


def test_nothing_intact_in_a_named_directory_is_refused(stopped, fit, folder, capsys):
    for path in (folder / RUN / "checkpoints").iterdir():
        _truncate(path)
    before = _files(folder / RUN)
    capsys.readouterr()

    with pytest.raises(SystemExit) as ended:
        fit("--resume=auto", "--trainer.logger.init_args.version=0")

    assert ended.value.code == 2
    assert "error: --resume auto: no checkpoint in 'runs/tiny/version_0' is intact" in capsys.readouterr().err
    assert _files(folder / RUN) == before


DIFFERENT = {
    "--model.optimization.lr=0.02": "model.optimization.lr (0.001 in the run, 0.02 in the config)",
    "--model.recipe.seed=5": "model.recipe.init_args.seed (0 in the run, 5 in the config)",
    "--data.batch_size=8": "data.init_args.batch_size (16 in the run, 8 in the config)",
    "--seed_everything=3": "model.seed (0 in the run, 3 in the config), seed_everything (0 in the run, 3 in the",
    "--trainer.max_steps=9": "trainer.max_steps (6 in the run, 9 in the config)",
    "--trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches (1 in the run, 2 in the config)",
    "--trainer.precision=bf16-mixed": "trainer.precision (None in the run, bf16-mixed in the config)",
}


def test_other_settings_are_refused_and_listed(stopped, refused):
    for option, difference in DIFFERENT.items():
        line = refused("fit", *QUICK, "--resume=auto", option)
        assert f"was made with other settings: {difference}" in line
        assert line.count(" in the run, ") == difference.count(" in the run, ")
        assert f"--init_from {LAST}" in line


def test_what_changes_no_trained_number_may_change(stopped, fit):
    free = ("--trainer.val_check_interval=4", "--data.val_batches=3", "--trainer.log_every_n_steps=7")

    cli = fit("--resume=auto", *free, "--model.save_target=true")

    assert cli.trainer.global_step == 6


def test_another_target_under_the_same_settings_is_refused(fit, folder, capsys):
    loaded = "--model.recipe={'class_path': 'LoadedWeights', 'init_args': {'path': 'weights.safetensors'}}"
    weights = {"linear1.weight": torch.eye(3), "linear2.weight": torch.eye(3), "linear2.bias": torch.zeros(3)}
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(SystemExit):
        fit(*STOPPED, loaded)
    save_file(weights | {"linear2.bias": torch.ones(3)}, folder / "weights.safetensors")

    with pytest.raises(SystemExit) as ended:
        fit("--resume=auto", loaded)

    assert ended.value.code == 2
    assert "error: the checkpoint belongs to another target" in capsys.readouterr().err


AMBIGUOUS = {
    ("--resume=auto", "--ckpt_path=last"): "leave out --ckpt_path last",
    ("--resume=auto", "--trainer.logger=false"): "--resume auto needs a run directory",
    ("--resume=auto", "--trainer.enable_checkpointing=false"): "--resume auto needs checkpoints",
    ("--resume=always",): "always",
    ("--init_from=nowhere.ckpt",): "'nowhere.ckpt' does not exist",
    ("--init_from=.",): "--init_from '.' holds no components.safetensors",
}


@pytest.mark.parametrize("options", AMBIGUOUS)
def test_wrong_ways_to_start(options, refused):
    assert AMBIGUOUS[options] in refused("fit", *options)


def test_init_from_takes_the_weights_alone(fit, folder):
    trained = fit()

    for origin in (LAST, RUN):
        started = fit(
            "--resume=auto", "--trainer.logger.init_args.name=more", f"--init_from={origin}", "--trainer.max_steps=1"
        )
        state = torch.load(f"{started.trainer.log_dir}/checkpoints/last.ckpt", weights_only=True)
        step = next(iter(state["optimizer_states"][0]["state"].values()))["step"]
        moved = started.model.model.components["linear1"].V - trained.model.model.components["linear1"].V
        assert (started.trainer.global_step, step.item()) == (1, 1)
        assert 0 < moved.abs().max() <= 1.01e-3  # one step of AdamW at lr 1e-3, no warm-up
        shutil.rmtree(folder / "runs/more")


def test_init_from_keeps_components_where_they_would_start_from_examples(fit):
    trained = fit("--model.init=examples")

    started = fit("--model.init=examples", f"--init_from={RUN}", "--trainer.max_steps=1")

    moved = started.model.model.components["linear1"].V - trained.model.model.components["linear1"].V
    assert 0 < moved.abs().max() <= 1.01e-3


def test_init_from_says_what_does_not_fit(fit, refused):
    fit()

    line = refused("fit", f"--init_from={RUN}", "--model.sites={'linear*': 6}")

    assert f"[3, 4] in --init_from {RUN}, [3, 6] in the config" in line


def test_init_from_stays_on_record(fit, folder):
    fit()
    fit(f"--init_from={RUN}")

    config = yaml.safe_load((folder / "runs/tiny/version_1/config.yaml").read_text())
    assert config["init_from"] == RUN
    tested = main(["test", "--ckpt_path=runs/tiny/version_1/checkpoints/last.ckpt"])
    assert isinstance(tested.model, StochasticDecomposition)
    assert json.loads((folder / "runs/tiny/version_1/test/version_0/metrics.json").read_text())["steps"] == 6
