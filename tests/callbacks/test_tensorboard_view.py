"""What TensorBoard opens on: curves, the important ones first, nothing twice, nothing empty."""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    FinalReport,
    MechanismRecovery,
    TensorBoardLayout,
    TrainingLog,
)
from spd_lightning.callbacks.evaluation import EvaluationCallback, log_scores
from spd_lightning.callbacks.swept_values import SweptValues
from tests.methods.tiny import expected_notices, features, make_trainer, toy

EVERYTHING = {"scalars": 0, "images": 0, "tensors": 0}
HEADLINE = [
    "headline/l0",
    "headline/l0_of_alive",
    "headline/loss",
    *(f"headline/relative_distance/{name}" for name in ("ci_masked", "rounded", "unmasked", "worst_case")),
]


class Own(EvaluationCallback):
    """Scores as users log them: one that is never a number, one that stops being one, one by Lightning's own call."""

    def finish(self, trainer, module, stage):
        fine = trainer.global_step < 4
        log_scores(module, f"{stage}/own", {"never": math.nan, "lost": 1.0 if fine else math.nan})
        module.log(f"{stage}/sharpness", 0.5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Four steps with two validations, and the test after them."""
    folder = tmp_path_factory.mktemp("view")
    loggers = [TensorBoardLogger(folder, name="", version="run", default_hp_metric=False), CSVLogger(folder, "csv")]
    scoring = [
        ComponentActivity(),
        AblationCheck(adversary_steps=2, ladder=(2, 3)),
        MechanismRecovery(chance_draws=1),
        Own(),
    ]
    around = [TensorBoardLayout(), TrainingLog(2), SweptValues({"importance.p": 0.9}), FinalReport()]
    settings = {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": None}
    trainer = make_trainer(folder, logger=loggers, callbacks=[*scoring, *around], **settings)
    module = toy()
    with expected_notices():
        trainer.fit(module, datamodule=features())
        returned = trainer.test(module, datamodule=features(), verbose=False)
    events = EventAccumulator(str(folder / "run"), size_guidance=EVERYTHING).Reload()
    return SimpleNamespace(folder=folder, trainer=trainer, events=events, returned=returned)


def _points(finished):
    events = finished.events
    return {tag: [point.value for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_objective_l0_and_relative_distances_sort_first(finished):
    scalars = set(_points(finished))
    tags = sorted(scalars | set(finished.events.Tags()["images"]))  # Time Series shows both

    assert tags[: len(HEADLINE)] == HEADLINE
    assert {tag.partition("/")[0] for tag in scalars} == {"headline", "train", "val"}


def test_the_headline_is_what_the_scores_beneath_say(finished):
    points = _points(finished)
    l0 = [sum(pair) for pair in zip(points["val/l0/linear1"], points["val/l0/linear2"], strict=True)]
    alive = [sum(pair) for pair in zip(points["val/alive/linear1"], points["val/alive/linear2"], strict=True)]

    assert points["headline/loss"] == points["train/loss"]
    assert points["headline/l0"] == pytest.approx(l0)
    assert points["headline/l0_of_alive"] == pytest.approx([a / b for a, b in zip(l0, alive, strict=True)])
    for name in ("unmasked", "ci_masked", "rounded", "worst_case"):
        pairs = zip(points[f"val/ablation/{name}"], points["val/ablation/zero"], strict=True)
        assert points[f"headline/relative_distance/{name}"] == pytest.approx([one / zero for one, zero in pairs])


def test_no_chart_is_a_single_dot(finished):
    assert [tag for tag, values in _points(finished).items() if len(values) < 2] == []


def test_what_is_never_a_number_has_no_chart_and_what_stops_being_one_shows_it(finished):
    points = _points(finished)

    assert [tag for tag, values in points.items() if all(math.isnan(value) for value in values)] == []
    assert points["val/own/lost"] == [1.0, pytest.approx(math.nan, nan_ok=True)]


def test_scores_of_the_test_are_kept_where_they_make_no_chart(finished):
    (returned,) = finished.returned
    (scores,) = finished.events.Tensors("scores/text_summary")

    assert returned["test/sharpness"] == finished.trainer.callback_metrics["test/sharpness"] == 0.5
    assert "contradictions at tolerance" in scores.tensor_proto.string_val[0].decode()
    assert "test/ablation/ladder_3" in (finished.folder / "csv/version_0/metrics.csv").read_text()


def test_each_picture_is_there_once(finished):
    events = finished.events
    shown = Counter(
        (image.step, image.encoded_image_string) for tag in events.Tags()["images"] for image in events.Images(tag)
    )

    ladder = "pictures/ablation_distances/test"  # which only the test climbs
    assert set(events.Tags()["images"]) == {"pictures/ablation_distances", ladder, "pictures/single_ablations"}
    assert max(shown.values()) == 1
    assert [image.step for image in events.Images("pictures/single_ablations")] == [2, 4]


def _hyperparameters(finished, tag, parse):
    return parse(finished.events.SummaryMetadata(tag).plugin_data.content)


def test_runs_are_compared_by_what_one_tunes(finished):
    started = _hyperparameters(finished, metadata.SESSION_START_INFO_TAG, metadata.parse_session_start_info_plugin_data)
    values = {name: value.number_value for name, value in started.hparams.items()}

    assert set(values) == {
        *(f"C/{site}" for site in ("linear1", "linear2")),
        *(f"coefficient/{name}" for name in ("faithfulness", "stochastic", "layerwise", "importance")),
        *("importance.p", "lr", "seed", "steps", "warmup_steps"),
    }
    assert (values["steps"], values["C/linear1"], values["importance.p"]) == (4, 6, 0.9)


def test_beside_them_stand_the_numbers_of_the_verdict_which_are_curves(finished):
    experiment = _hyperparameters(finished, metadata.EXPERIMENT_TAG, metadata.parse_experiment_plugin_data)
    metrics = [metric.name.tag for metric in experiment.metric_infos]

    assert metrics[:2] == ["headline/l0", "headline/l0_of_alive"]
    assert set(metrics) <= set(_points(finished))
    recovery = ("recovery/linear1/identity_contradictions_0.2", "recovery/linear1/mmcs", "alive/linear1")
    assert {f"val/{name}" for name in recovery} | set(HEADLINE) - {"headline/loss"} <= set(metrics)


CURVE = {0: 3.0, 5: 2.0, 40: 1.0}


class Curved:
    """A recipe that trained the target before this run."""

    def __init__(self):
        self.curve = CURVE

    def prepare(self, network):
        """The network is as it is."""


def _target_curve(folder):
    events = EventAccumulator(str(folder / "run"), size_guidance=EVERYTHING).Reload()
    return {point.step: point.value for point in events.Scalars("target/loss")}


def test_the_targets_loss_is_there_over_its_own_updates_after_resuming_too(tmp_path):
    def run(steps, ckpt_path=None):
        logger = TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False)
        module = toy()
        module.recipe = Curved()
        trainer = make_trainer(tmp_path, logger=logger, callbacks=[TrainingLog(2)], max_steps=steps)
        with expected_notices():
            trainer.fit(module, datamodule=features(), ckpt_path=ckpt_path)
        logger.finalize("success")
        trainer.save_checkpoint(tmp_path / "last.ckpt")

    run(4)
    assert _target_curve(tmp_path) == CURVE
    run(6, tmp_path / "last.ckpt")
    assert _target_curve(tmp_path) == CURVE
