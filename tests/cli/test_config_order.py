"""A recipe that comes before what it is to be used for is lost; that is said."""

import pytest

from spd_lightning.cli.arguments import with_shipped_configs
from spd_lightning.cli.config_order import notes_on_order


def notes(*configs):
    return list(notes_on_order(with_shipped_configs(["fit", *(f"--config={config}" for config in configs)])))


@pytest.mark.parametrize(
    "configs",
    [
        (),
        ("tms.yaml",),
        ("tms.yaml", "default.yaml"),
        ("digits.yaml", "default.yaml", "default_logits.yaml"),
        ("tms.yaml", "tms_40-10.yaml"),  # two whole ones: the second is simply chosen
    ],
)
def test_in_order_nothing_is_said(configs):
    assert notes(*configs) == []


def test_a_recipe_that_is_replaced_is_named():
    (line,) = notes("default.yaml", "tms.yaml")
    assert line == (
        "tms.yaml replaces trainer.max_steps, model.importance, model.leak and 5 more of default.yaml; "
        "to train by default.yaml, give it last: --config tms.yaml --config default.yaml"
    )


def test_parts_that_do_not_meet_may_come_first(tmp_path):
    own, added = tmp_path / "own.yaml", tmp_path / "added.yaml"
    own.write_text("trainer: {accelerator: cpu}\nseed_everything: 3\n")
    added.write_text("model: {losses+: {importance: {init_args: {coefficient: 1.0e-3}}}}\n")
    assert notes(own, "tms.yaml", added) == []

    own.write_text("seed_everything: 3\ntrainer: {max_steps: 3}\n")
    (line,) = notes(own, "tms.yaml")
    assert line.startswith("tms.yaml replaces trainer.max_steps of own.yaml;")


def test_values_that_are_none_are_left_to_the_parser(tmp_path):
    date, merge = tmp_path / "date.yaml", tmp_path / "merge.yaml"
    date.write_text("trainer: {max_steps: 3, logger: {init_args: {version: 2024-31-12}}}\n")
    merge.write_text("data: {<<: 3}\n")
    (line,) = notes(date, merge, "tms.yaml")
    assert line.startswith("tms.yaml replaces trainer.max_steps, trainer.logger of date.yaml;")
