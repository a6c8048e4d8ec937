"""Bad input gets one line and exit code 2; nothing is written or lost."""

import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

CASES = {
    "unknown key": (["--model.leek=linear"], "there is no flag --model.leek; did you mean --model.leak?"),
    "unknown nested key": (["--model.target.n_featurs=3"], "takes no 'n_featurs'; did you mean n_features?"),
    "misspelt class": (["--model.recipe=FeatureTrainig"], "FeatureTrainig"),
    "misspelt term": (
        ["--config=tms.yaml", "--model.losses.importence.coefficient=1"],
        "model.losses.importence has no class_path",
    ),
    "term that is only half a class": (
        ["--model.losses={'own': {'class_path': 'spd_lightning.losses.SitewisePenalty'}}"],
        "model.losses.own: SitewisePenalty does not define forward; name a class that does",
    ),
    "empty argument": ([""], "an argument is empty; leave it out, or give a value to the flag before it"),
    "wrong type": (["--trainer.max_steps=many"], "many"),
    "pattern matches nothing": (["--model.sites={'linaer1': 4}", "--model.ties=null"], "did you mean 'linear"),
    "unsupported module": (["--model.sites={'hidden_layers': 4}", "--model.ties=null"], "is a ModuleList"),
    "no component": (["--model.sites={'linear*': 0}"], "C must be at least 1, got 0"),
    "sites by another form": (["--model.sites={'linear1': {'C': 40}}"], "a number for each name, as in {NAME: 8}"),
    "network that cannot be made": (
        ["--model.target={'class_path': 'torch.nn.Linear', 'init_args': {'in_features': -1, 'out_features': 2}}"],
        "Linear cannot be made: RuntimeError: Trying to create tensor with negative dimension -1",
    ),
    "tie to no site": (["--model.ties={'linear2': 'linear9'}"], "two different sites"),
    "zero steps": (["--trainer.max_steps=0"], "max_steps must be at least 1, got 0"),
    "endless steps": (["--trainer.max_steps=-1"], "max_steps must be at least 1, got -1"),
    "probability of 0": (["--data.feature_probability=0"], "(0, 1], got 0"),
    "probability above 1": (["--data.feature_probability=1.5"], "(0, 1], got 1.5"),
    "width of another target": (["--data.n_features=7"], "n_features is 7, but the target takes 3"),
    "learning rate of 0": (["--model.optimization.lr=0"], "optimization.lr must be a finite number above 0"),
    "warm-up below 0": (["--model.warmup.steps=-3"], "warmup.steps must be at least 0"),
    "term's coefficient below 0": (
        ["--model.losses.importance.coefficient=-1"],
        "ImportanceMinimality: coefficient must be a finite number at least 0, got -1",
    ),
    "recipe without steps": (["--model.recipe.steps=0"], "steps and batch_size must be at least 1"),
    "random seed": (["--seed_everything=true"], "seed_everything must be a whole number"),
    "trainer's own clipping": (["--trainer.gradient_clip_val=1"], "clip_components"),
    "devices below 0": (
        ["--trainer.devices=-5"],
        "trainer: `devices` selected with `CPUAccelerator` should be an int > 0",
    ),
    "unknown accelerator": (["--trainer.accelerator=nonsense"], "trainer: You selected an invalid accelerator name"),
    "unknown strategy": (["--trainer.strategy=nonsense"], "trainer: You selected an invalid strategy name"),
    "logging every -1 steps": (["--trainer.log_every_n_steps=-1"], "log_every_n_steps must be at least 0, got -1"),
    "no batch per step": (["--trainer.accumulate_grad_batches=0"], "accumulate_grad_batches must be at least 1, got 0"),
    "validation every 0 steps": (
        ["--trainer.val_check_interval=0"],
        "val_check_interval must be at least 1 step, got 0",
    ),
    "device that is not there": (["--trainer.accelerator=cuda"], "accelerator"),
    "sharding": (
        [
            "--trainer.strategy={'class_path': 'lightning.pytorch.strategies.ModelParallelStrategy'}",
            "--trainer.accelerator=cpu",
            "--trainer.devices=2",
        ],
        "trainer.strategy: ModelParallelStrategy is not supported, nobody has compared its numbers; use ddp or sharded",
    ),
    "processes of another launcher": (
        ["--trainer.strategy=ddp_spawn", "--trainer.accelerator=cpu", "--trainer.devices=2"],
        "trainer.strategy: MultiProcessingLauncher is not supported",
    ),
    "config that is not there": (
        ["--config=nowhere.yaml"],
        "config 'nowhere.yaml' does not exist; python -m spd_lightning configs lists",
    ),
    "checkpoint that is not there": (["--ckpt_path=nowhere.ckpt"], "checkpoint 'nowhere.ckpt' does not exist"),
    "no run to continue": (["--ckpt_path=last"], "no run under 'runs/tiny' has a checkpoint yet"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_argument(case, refused):
    arguments, message = CASES[case]

    assert message in refused("fit", *arguments)


@pytest.mark.parametrize("value", ["-1", ".nan", ".inf"])
def test_wrong_coefficient(value, folder, refused):
    text = (folder / "tiny.yaml").read_text()
    (folder / "tiny.yaml").write_text(text.replace("coefficient: 3.0e-3", f"coefficient: {value}"))

    assert "coefficient must be a finite number at least 0" in refused("fit")


def test_broken_yaml(folder, refused):
    (folder / "broken.yaml").write_text("trainer: [")

    refused("fit", "--config=broken.yaml")


@pytest.mark.parametrize(("shape", "name"), [((3, 7), "linear1.weight"), ((3, 3), "linear1.wait")])
def test_target_weights_of_another_network(shape, name, folder, refused):
    good = {"linear2.weight": torch.zeros(3, 3), "linear2.bias": torch.zeros(3)}
    save_file({name: torch.zeros(shape), **good}, folder / "other.safetensors")

    line = refused("fit", "--model.recipe={'class_path': 'LoadedWeights', 'init_args': {'path': 'other.safetensors'}}")

    assert "'linear1.weight'" in line


class _Payload:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def _foreign(path):
    torch.save({"state_dict": {}}, path)


def _truncated(path):
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:1500])


def _hostile(path):
    torch.save({"state_dict": _Payload()}, path)


def _bare_pickle(path):
    path.write_bytes(pickle.dumps(_Payload()))


def _archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.txt", "hello")


BAD_FILES = {
    _foreign: "was not written by spd_lightning",
    _truncated: "is damaged or not a torch file",
    _hostile: "holds objects other than tensors and plain data; refused",
    _bare_pickle: "bad.ckpt",
    _archive: "bad.ckpt",
}


@pytest.mark.parametrize("make", BAD_FILES)
@pytest.mark.parametrize("command", ["fit", "test"])
def test_bad_checkpoint(make, command, folder, refused):
    make(folder / "bad.ckpt")
    config = [] if command == "fit" else ["--config=tiny.yaml"]

    assert BAD_FILES[make] in refused(command, *config, "--ckpt_path=bad.ckpt")
    assert not (folder / "executed").exists()


def test_unwritable_run_directory(folder, refused):
    (folder / "occupied").write_text("a file, not a folder")

    line = refused("fit", "--trainer.logger.init_args.save_dir=occupied")

    assert "the run directory 'occupied/tiny' cannot be written" in line


def test_output_that_exists(folder, run, refused, capsys):
    run("fit")
    (folder / "mine.csv").write_text("precious")

    line = refused("predict", "--ckpt_path=runs/tiny/version_0/checkpoints/last.ckpt", "--output=mine.csv")

    assert "'mine.csv' exists" in line
    assert (folder / "mine.csv").read_text() == "precious"


BAD_INPUTS = {
    "1,2\n": "has 2 columns, but the target takes 3",
    "1,2,3\n4,5\n": "row 2 must hold 3 numbers",
    "1,2,x\n": "row 1 must hold 3 numbers",
    "a,b,c\n": "holds no rows",
    "1,2,inf\n": "not finite",
}


@pytest.mark.parametrize("content", BAD_INPUTS)
def test_bad_input_table(content, folder, run, refused):
    run("fit", "--trainer.max_steps=1", "--trainer.val_check_interval=1")
    (folder / "x.csv").write_text(content)

    line = refused("predict", "--ckpt_path=runs/tiny/version_0/checkpoints/last.ckpt", "--input=x.csv")

    assert BAD_INPUTS[content] in line


def test_missing_checkpoint_without_a_config(refused):
    line = refused("test", "--ckpt_path=runs/tiny/version_7/checkpoints/last.ckpt")

    assert "last.ckpt' does not exist" in line


def test_no_config_at_all(refused):
    assert "--config tms.yaml" in refused("test")


def test_checkpoint_of_other_sizes(run, refused):
    run("fit")

    line = refused("fit", "--ckpt_path=last", "--model.sites={'linear*': 6}")

    assert "has another shape" in line
    assert "[3, 4] in the checkpoint, [3, 6] in the config" in line


def test_checkpoint_of_another_target(run, refused):
    run("fit")

    assert "another target" in refused("fit", "--ckpt_path=last", "--model.recipe.seed=1", "--trainer.max_steps=9")
