"""``callbacks+:`` and a class that ``base.yaml`` has already."""

import pytest
import yaml

from spd_lightning.cli.command import DecompositionCLI, main
from spd_lightning.cli.shipped import shipped_configs

BASE = yaml.safe_load((shipped_configs() / "base.yaml").read_text())["trainer"]["callbacks"]
NAMES = [entry["class_path"] for entry in BASE]


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """The callbacks of a ``fit`` whose config adds some: names, and arguments by name."""
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(DecompositionCLI, "instantiate_classes", lambda cli: found.append(cli._settings) or 1 / 0)

    def read(*configs):
        for number, added in enumerate(configs):
            (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump({"trainer": added}))
        with pytest.raises(ZeroDivisionError):
            main(["fit", "--config=tms.yaml", *(f"--config={number}.yaml" for number in range(len(configs)))])
        return [(c.class_path.rpartition(".")[2], c.get("init_args")) for c in found[-1].trainer.callbacks]

    return read


def _entry(name, **arguments):
    return {"class_path": name, "init_args": arguments}


def test_an_added_callback_takes_the_place_of_the_standing_one(settled):
    before = [name for name, _ in settled()]
    found = settled({"callbacks+": [_entry("Checkpoints", every_n_train_steps=7), _entry("ScrubbingTest", draws=3)]})
    assert before[: len(NAMES)] == NAMES
    assert [name for name, _ in found] == [*before, "ScrubbingTest"]
    assert dict(found)["Checkpoints"].every_n_train_steps == 7


def test_there_is_one_progress_bar(settled):
    found = [name for name, _ in settled({"callbacks+": [_entry("RichProgressBar")]})]
    assert found.index("RichProgressBar") == NAMES.index("DecompositionProgressBar")
    assert len([name for name in found if name.endswith("ProgressBar")]) == 1


def test_two_that_a_config_adds_both_stay(settled):
    added = [_entry("AblationCheck", adversary_steps=1), _entry("AblationCheck", adversary_steps=2)]
    steps = [arguments.adversary_steps for name, arguments in settled({"callbacks+": added}) if name == "AblationCheck"]
    assert steps == [1, 2]


def test_a_list_that_replaces_the_standing_one_is_left_alone(settled):
    added = [_entry("TrainingLog"), _entry("TrainingLog", every_n_steps=3)]
    assert [name for name, _ in settled({"callbacks": added})] == ["TrainingLog", "TrainingLog"]


def test_two_whose_states_cannot_be_told_apart_are_refused_by_name(refused):
    line = refused("fit", "--trainer.callbacks=[Checkpoints, Checkpoints]")
    assert "trainer.callbacks names Checkpoints twice, and a checkpoint could not tell their states apart" in line
