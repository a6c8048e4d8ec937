"""``--trainer.devices N --trainer.strategy ddp`` gives the losses, weights, scores and files of one process."""

import json

import pytest
import torch
import yaml

from spd_lightning.cli.arguments import find_config
from tests.reliability.process_runs import PAPER, Folder, config

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
"""Sums in another order differ by one rounding, 6e-8 of their size. Adam divides gradients by their size, so that an
entry whose gradient is all rounding may move by the learning rate, 3e-3, in either direction; others keep to roundings.
Found are 5e-7 after 200 steps."""


def assert_same(several: Folder, one: Folder) -> None:
    """Whether two folders hold the same weights, losses and files, up to roundings."""
    torch.testing.assert_close(several.weights(), one.weights(), **TOLERANCE)
    assert len(one.losses()) > 10
    torch.testing.assert_close(several.losses(), one.losses(), rtol=1e-3, atol=1e-6)
    assert several.scores().keys() == one.scores().keys()
    assert several.files() == one.files()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("processes") / "one", config())
    folder.fit()
    return folder


@pytest.fixture(scope="module")
def two(one):
    folder = Folder(one.path.parent / "two", config())
    folder.said = folder.fit(2)
    return folder


def test_two_processes_are_one_computation(two, one):
    assert_same(two, one)


def test_scores_are_counted_over_all_processes(two, one):
    """L0 and distances are means over the examples of both; the number alive is no sum."""
    for name, score in one.scores().items():
        assert two.scores()[name] == pytest.approx(score, rel=1e-3, abs=1e-6), name


def test_everything_is_written_and_said_once(two):
    assert json.loads((two.run / "metrics.json").read_text())["processes"] == 2
    assert len(list(two.run.glob("events*"))) <= 2  # of training and of the test that follows
    assert two.said.count("from the target under") == 1
    assert "Warning" not in two.said
    assert "sync_dist" not in two.said


ALL = {
    "every loss": {
        "faithfulness": {"class_path": "Faithfulness"},
        "stochastic": {"class_path": "Reconstruction"},
        "adversary": {"class_path": "Reconstruction", "init_args": {"sources": "adversarial", "coefficient": 0.1}},
        "subset": {"class_path": "Reconstruction", "init_args": {"sources": "binomial", "routing": "subset"}},
        "importance": {"class_path": "ImportanceMinimality", "init_args": {"coefficient": 3e-3, "p": 0.9}},
        "frequency": {"class_path": "FrequencyMinimality", "init_args": {"coefficient": 1e-3}},
    },
    "the paper's": PAPER,
    "the default recipe's": yaml.safe_load(find_config("default.yaml").read_text())["model"]["losses"],
    "untuned": None,
    "of language models": {
        "faithfulness": {"class_path": "RelativeFaithfulness"},
        "adversary": {"class_path": "PersistentAdversary", "init_args": {"distance": "mse", "share": 0.5}},
        "pool": {"class_path": "PersistentAdversary", "init_args": {"distance": "mse", "scope": "pool", "pool": 3}},
        "importance": {"class_path": "SmoothImportance", "init_args": {"coefficient": 3e-3}},
        "frequency": {"class_path": "SmoothFrequency", "init_args": {"coefficient": 1e-3, "half_life": 5}},
    },
}
STEPS = {"every loss": 20, "the paper's": 200, "the default recipe's": 20, "untuned": 20, "of language models": 20}
"""Masks that are drawn as 0 or 1 and an adversary's signed steps jump where a rounding turns them. After some dozens of
steps one jump has parted two runs, which then differ by 1e-3 and not by roundings: such losses get few steps."""
WITH_MOMENTS_OF_THEIR_OWN = 150
"""Longest run with tied sites updated twice: at step 200 a gate whose gradient is nothing but rounding differs by 2e-4,
all else by 2e-6 at most."""


def test_datasets_are_shared_and_warnings_counted_over_all(tmp_path):
    """Rows of every batch and of the whole validation, though 101 cannot be halved."""
    settings = config(steps=50)
    examples = {
        name: {"class_path": "tests.data.examples.Examples", "init_args": {"size": size, "width": 5}}
        for name, size in (("train", 400), ("val", 101))
    }
    touchy = {"patience": 1, "alive_threshold": 1.0, "saturation": 0.3, "saturated_share": 0.01}
    names = ("TrainingHealth", "ExportDecomposition", "FinalReport", "Checkpoints")
    health, *rest = ({"class_path": name} for name in names)
    log, *_ = settings["trainer"].pop("callbacks+")
    settings["trainer"]["callbacks"] = [log, {**health, "init_args": touchy}, *rest]
    settings["data"] = {"class_path": "DatasetBatches", "init_args": {**examples, "batch_size": 65}}
    one, two = (Folder(tmp_path / str(count), settings) for count in (1, 2))
    said = one.fit(), two.fit(2, "--data.num_workers=1")

    assert_same(two, one)
    warnings = [[line for line in lines.splitlines() if "warning: step" in line] for lines in said]
    assert len(warnings[0]) == 4, "no component alive above 1, and importances of 0.3 or more, at two sites"
    assert warnings[1] == warnings[0]
    for name, score in one.scores().items():
        assert two.scores()[name] == pytest.approx(score, rel=1e-3, abs=1e-6), name


@pytest.mark.reliability
@pytest.mark.parametrize("losses", ALL)
@pytest.mark.parametrize(
    ("processes", "options"),
    [
        (4, []),
        (2, ["--model.init", "examples"]),
        (2, ["--model.tied_updates", "twice"]),
        (2, ["--model.speed.step", "plain", "--data.merge_empty", "false"]),
        (2, ["--trainer.accumulate_grad_batches", "3"]),
    ],
    ids=["four", "examples", "twice", "plain", "accumulated"],
)
def test_any_number_of_processes_is_one_computation(processes, options, losses, tmp_path):
    steps = min(STEPS[losses], WITH_MOMENTS_OF_THEIR_OWN) if "twice" in options else STEPS[losses]
    folders = [Folder(tmp_path / str(count), config(steps, ALL[losses])) for count in (1, processes)]
    for folder, count in zip(folders, (1, processes), strict=True):
        folder.fit(count, *options)

    assert_same(folders[1], folders[0])


@pytest.mark.reliability
@pytest.mark.parametrize("strategy", [[], ["--trainer.strategy", "sharded"]], ids=["ddp", "sharded"])
def test_several_processes_merge_the_same_components(strategy, tmp_path):
    """From a start from examples, several of one feature, with bounds that some of them meet at once."""
    folders = [Folder(tmp_path / str(count), config(20, ALL["the default recipe's"])) for count in (1, 2)]
    merging = {"start": 0.2, "every": 5}
    options = ["--model.init=examples", *(f"--model.merging.{name}={value}" for name, value in merging.items())]

    said = folders[0].fit(1, *options), folders[1].fit(2, *strategy, *options)

    merged = [[line for line in lines.splitlines() if "merged into other components" in line] for lines in said]
    assert merged[0]
    assert merged[1] == merged[0]
    assert_same(folders[1], folders[0])
