"""A run killed at any moment and started again by the same command ends as if nothing had happened."""

import random
import signal
import time

import pytest

from tests.data.texts import folder_of, word_tokenizer
from tests.reliability.conftest import TRAINER, assert_identical, make_bench, results
from tests.tiny_system import LOSSES, MODEL


@pytest.fixture(scope="module")
def straight(tmp_path_factory, starter):
    """What a run that nobody disturbs leaves."""
    bench = make_bench(tmp_path_factory.mktemp("straight"), starter)
    assert bench.run() == 0, bench.log()
    return results(bench.last_run)


MOMENTS = [
    ("step", 2),  # before the first checkpoint: starts anew
    ("step", 5),
    ("validation", 6),
    ("save", 8),
    ("validation_end", 12),  # a step that is saved once it is validated
    ("batch_end", 17),
    ("save", 24),
    ("save", 25),
    ("fit_end", 25),
    ("test", 25),
    ("report", 25),
]
FEW = [("step", 5), ("validation_end", 12), ("report", 25)]


@pytest.mark.parametrize("moments", [FEW, pytest.param(MOMENTS, marks=pytest.mark.reliability)], ids=["few", "many"])
def test_killed_at_chosen_moments(moments, bench, straight):
    for hook, step in moments:
        bench.killed_at(hook, step)

    assert bench.run() == 0, bench.log()

    assert_identical(straight, results(bench.last_run))


def _cached_target_begun(bench):
    return lambda: any(bench.folder.glob("cache/targets/*"))


def _checkpoint_half_written(bench):
    """A file that is not yet a checkpoint lies where checkpoints are written, or where files wait for their place."""
    return lambda: any(bench.folder.glob("tmp/*")) or any(bench.folder.glob("runs/tiny/*/checkpoints/.*"))


def test_killed_while_files_are_made(bench, straight):
    assert bench.killed_when(_cached_target_begun(bench)) == -signal.SIGKILL
    assert bench.killed_when(_checkpoint_half_written(bench)) == -signal.SIGKILL

    assert bench.run() == 0, bench.log()

    assert_identical(straight, results(bench.last_run))


DATASETS = """\
data:
  class_path: DatasetBatches
  init_args:
    train: {class_path: tests.data.examples.Examples, init_args: {size: 50}}
    val: {class_path: tests.data.examples.Examples, init_args: {size: 7}}
    batch_size: 16
"""


def test_a_dataset_goes_on_where_it_was_with_another_number_of_workers(bench, tmp_path_factory, starter):
    lines = [line for line in TRAINER.splitlines(keepends=True) if "MechanismRecovery" not in line]  # needs probes
    config = "".join(lines) + MODEL + LOSSES + DATASETS
    undisturbed = make_bench(tmp_path_factory.mktemp("dataset"), starter, config=config)
    assert undisturbed.run() == 0, undisturbed.log()
    (bench.folder / "lean.yaml").write_text(config)

    bench.killed_at("step", 5)
    bench.killed_at("validation", 12, "--data.num_workers=2")
    bench.killed_at("batch_end", 17, "--data.num_workers=1")
    assert bench.run() == 0, bench.log()

    expected, got = results(undisturbed.last_run), results(bench.last_run)
    assert_identical(expected, got)


@pytest.mark.reliability
def test_accumulated_steps_and_another_number_of_validation_batches(bench, tmp_path_factory, starter):
    options = ("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=13")
    undisturbed = make_bench(tmp_path_factory.mktemp("accumulated"), starter, *options)
    assert undisturbed.run() == 0, undisturbed.log()
    bench.options = options

    bench.killed_at("step", 5)  # with one of its two batches done
    bench.killed_at("validation", 9, "--data.val_batches=1")
    assert bench.run() == 0, bench.log()

    expected, got = results(undisturbed.last_run), results(bench.last_run)
    for outcome in (expected, got):  # one validation saw fewer batches, as it was asked to
        scalars = outcome["scalars"].items()
        outcome["scalars"] = {tag: points for tag, points in scalars if not tag.startswith(("val/", "headline/"))}
    assert_identical(expected, got)


TEXT = """\
model:
  target: {class_path: LanguageModel, init_args: {vocabulary: 300, length: 8, width: 16, layers: 1, heads: 2}}
  recipe:
    class_path: LanguageModelTraining
    init_args:
      data: &text {class_path: TextTokens, init_args: {sources: [texts], vocabulary: 300, length: 8, batch_size: 4}}
      steps: 3
  call: {class_path: KeywordCall, init_args: {inputs: [input_ids], weights: attention_mask, output: logits}}
  sites: {"transformer.h.*.mlp.c_*": 4}
  losses:
    faithfulness: {class_path: RelativeFaithfulness}
    adversary: {class_path: PersistentAdversary, init_args: {share: 0.5}}
    importance: {class_path: SmoothImportance, init_args: {coefficient: 1.0e-2}}
    frequency: {class_path: SmoothFrequency, init_args: {coefficient: 1.0e-2, half_life: 4}}
data: *text
"""


STREAM = """\
data:
  class_path: StreamedText
  init_args: {sources: [texts], tokenizer: words, length: 8, batch_size: 4, val_fraction: 0.2, val_windows: 12}
"""


@pytest.mark.reliability
@pytest.mark.parametrize("data", ["data: *text\n", STREAM], ids=["kept text", "streamed text"])
def test_a_language_model_under_an_adversary_that_remembers(bench, tmp_path_factory, starter, data):
    config = "".join(line for line in TRAINER.splitlines(keepends=True) if "MechanismRecovery" not in line) + TEXT
    config = config.replace("data: *text\n", data)
    undisturbed = make_bench(tmp_path_factory.mktemp("text"), starter, config=config)
    for one in (undisturbed, bench):
        folder_of(one.folder / "texts")
        word_tokenizer(one.folder / "words")
        (one.folder / "lean.yaml").write_text(config)
    assert undisturbed.run() == 0, undisturbed.log()

    for moment in (("step", 5), ("validation", 6), ("save", 8), ("batch_end", 17), ("report", 25)):
        bench.killed_at(*moment)
    assert bench.run() == 0, bench.log()

    assert_identical(results(undisturbed.last_run), results(bench.last_run))


@pytest.mark.reliability
def test_killed_twenty_times_at_random(tmp_path, starter, straight):
    timed, began = make_bench(tmp_path / "timed", starter), time.monotonic()
    assert timed.run() == 0, timed.log()
    whole = time.monotonic() - began
    draw, kills, rounds = random.Random(0), 0, 0
    while kills < 20:
        rounds += 1
        victim = make_bench(tmp_path / f"victim_{rounds}", starter)
        for _ in range(5):
            until = time.monotonic() + draw.uniform(0.0, whole)
            kills += victim.killed_when(lambda until=until: time.monotonic() > until) == -signal.SIGKILL
        assert victim.run() == 0, victim.log()
        assert_identical(straight, results(victim.last_run))
