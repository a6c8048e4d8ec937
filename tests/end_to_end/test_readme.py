"""The README's examples do what it says."""

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spd_lightning import DecomposedModel
from spd_lightning.cli.command import main

README = (Path(__file__).parents[2] / "README.md").read_text()
SHORT = [
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--model.recipe.steps=20",
    "--data.val_batch_size=64",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _block(language, containing):
    blocks = [block for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in block]
    assert len(blocks) == 1
    return blocks[0]


def _tags(run):
    events = EventAccumulator(str(run))
    events.Reload()
    return set(events.Tags()["scalars"])


@pytest.mark.filterwarnings("ignore:the trained target is flawed")  # 20 steps of training are too few
def test_a_callback_of_ones_own(folder):
    (folder / "mine").mkdir()
    (folder / "mine/sharpness.py").write_text(_block("python", "class Sharpness"))
    (folder / "mine/sharpness.yaml").write_text(_block("yaml", "sharpness.Sharpness"))
    command = next(line for line in README.splitlines() if "--config mine/sharpness.yaml" in line)

    main([*command.split()[3:], *SHORT])

    assert "val/sharpness" in _tags(folder / "runs/tms/version_0")


@pytest.mark.filterwarnings("ignore:The number of training batches")  # 16 batches, logged every 100
def test_a_network_of_ones_own(folder, capsys):
    (folder / "my_network.py").write_text(_block("python", "class MyNetwork"))
    config = _block("yaml", "my_network.MyNetwork").replace("max_steps: 200, val_check_interval: 100", "max_steps: 4")
    (folder / "my_network.yaml").write_text(config)

    cli = main(["fit", "--config=my_network.yaml", "--trainer.val_check_interval=2", SHORT[-1]])

    assert cli.model.model.site_names == ["blocks.0.0", "blocks.1.0"]
    assert "worst case over a fresh adversary" in capsys.readouterr().out
    target = type(cli.model.target)(16)
    assert DecomposedModel.from_pretrained(cli.trainer.log_dir, target=target).site_names == cli.model.model.site_names


@pytest.mark.filterwarnings("ignore:the trained target is flawed")
def test_the_artefact_in_a_notebook():
    main(["fit", "--config=tms.yaml", *SHORT])

    names: dict = {}
    exec(_block("python", "from_pretrained"), names)  # the example, as it stands

    assert names["parts"].V.shape == (5, names["parts"].n_components)


def test_commands_name_options_that_exist():
    options = set(re.findall(r"--(ckpt_path|input|output|config|seed_everything)\b", README))

    assert options == {"ckpt_path", "input", "output", "config", "seed_everything"}
