"""The page about recommendations: its example runs, its output is the command's, its numbers are those of the rules."""

import re
from pathlib import Path

import yaml

from spd_lightning.cli.shipped import shipped_configs
from spd_lightning.recommend import __main__ as command
from spd_lightning.recommend import fitting, rules

PAGE = (Path(__file__).parents[2] / "docs" / "recommend.md").read_text()


def _untimed(text):
    """Lines without what a machine decides, joined."""
    joined = " ".join(text.split())
    timed = r"time \d.*? a step, .* one of the warm-up, measured on \d+ thread"
    assert re.search(timed, joined)
    return re.sub(timed, "time", joined)


def test_the_output_shown_is_the_command_s(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path.parent / "cache"))
    command.main(["--config", "tms.yaml", "--device", "cpu"])
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1]

    assert _untimed(capsys.readouterr().out) == _untimed(shown)


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path.parent / "cache"))
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    names: dict = {}
    exec(
        block.replace("(digits)", "(digits, steps=200)")
        .replace("minutes=30", "minutes=1000, show=False")
        .replace("found.steps", "4, progress=False"),
        names,
    )

    assert names["model"].sites == names["found"].sites == {"fc1": 256, "fc2": 256, "fc3": 40}
    assert "alone" in capsys.readouterr().out


def test_the_numbers_are_those_of_the_rules():
    assert f"C = {rules.SPARE} max(rank, features, {rules.FEWEST})" in PAGE
    assert f"each component {rules.PER_COMPONENT} positions that are not empty" in PAGE
    assert "from {} to {} examples".format(*rules.BATCHES) in PAGE
    assert f"{rules.SEEN:,}".replace(",", " ") + " such positions, from {} to {} steps".format(*rules.STEPS) in PAGE
    assert f"at most about {rules.PASSES} passes" in PAGE
    assert rules.SHARE == 4
    assert f"down to {fitting.FEWEST_STEPS}" in PAGE
    assert fitting.SPARES == (4, 2, 1)
    assert fitting.MEMORY_SHARE == 0.5


def test_recipes_give_their_components_what_the_page_says():
    said = {"tms.yaml": "linear1", "tms_40-10.yaml": "linear1", "residual_mlp_1.yaml": "layers.*.mlp_in"}
    thousands = []
    for name, site in said.items():
        config = yaml.safe_load((shipped_configs() / name).read_text())
        data = config["data"]["init_args"]
        filled = 1 - (1 - data["feature_probability"]) ** data["n_features"]
        seen = config["trainer"]["max_steps"] * data["batch_size"] * filled / config["model"]["sites"][site]
        thousands.append(round(seen / 1e3))

    assert "give {} 000, {} 000 and {} 000".format(*thousands) in PAGE
