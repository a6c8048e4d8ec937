"""What callbacks leave in the run directory."""

import csv
import json
import re

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from spd_lightning import DecomposedModel, StochasticDecomposition, UsageError, callbacks
from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    ComponentVectors,
    ExportDecomposition,
    FinalReport,
    ImportanceDistribution,
    ImportanceHeatmaps,
    MechanismRecovery,
    PredictionWriter,
    TensorBoardLayout,
    TrainingLog,
)
from tests.callbacks.perfect import Rows, Unprobed
from tests.methods.tiny import Batches, OwnNetwork, expected_notices, features, fit, make_trainer, toy

PNG = b"\x89PNG\r\n\x1a\n"
VALIDATED = {"val_check_interval": 2, "limit_val_batches": None}


def _pictures(folder):
    return {path.name for path in (folder / "figures").iterdir()}


def _files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _drawing():
    return [AblationCheck(), ImportanceDistribution(), ImportanceHeatmaps(), ComponentVectors()]


def test_every_picture_lands_in_the_run_directory(perfect, examples, run):
    folder = run(perfect, Rows(examples), *_drawing()).folder

    assert _pictures(folder) == {
        "test_ablation_distances.png",
        "test_single_ablations.png",
        "test_importance_histogram.png",
        "test_importance_spectrum.png",
        "test_importance_heatmap.png",
        "test_component_vectors_linear1.png",
        "test_component_vectors_linear2.png",
    }
    assert all(path.read_bytes().startswith(PNG) for path in (folder / "figures").iterdir())


def test_pictures_are_drawn_in_validation_at_their_rhythm(tmp_path):
    drawing = [ImportanceHeatmaps(every_n_validations=3), AblationCheck(every_n_validations=1)]

    fit(toy(), features(), tmp_path, callbacks=drawing, **VALIDATED)

    assert _pictures(tmp_path) == {"val_ablation_distances.png", "val_single_ablations.png"}


def test_pictures_appear_in_tensorboard_at_their_step(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False)

    fit(
        toy(),
        features(),
        tmp_path,
        logger=logger,
        callbacks=[ImportanceDistribution(every_n_validations=1)],
        **VALIDATED,
    )

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert sorted(events.Tags()["images"]) == ["pictures/importance_histogram", "pictures/importance_spectrum"]
    assert [image.step for image in events.Images("pictures/importance_spectrum")] == [2, 4]
    assert _pictures(tmp_path / "run") == {"val_importance_histogram.png", "val_importance_spectrum.png"}


def test_a_network_without_known_mechanisms_or_probes_is_drawn_too(examples, run):
    module = StochasticDecomposition(OwnNetwork(width=3), {"head": 4, "blocks.0.0": 5})

    probed = run(module, Rows(examples), ComponentVectors())
    assert _pictures(probed.folder) == {f"test_component_vectors_{site}.png" for site in ("head", "blocks.0.0")}
    run(module, Unprobed(examples), AblationCheck(), ImportanceDistribution())

    assert "test_ablation_distances.png" in _pictures(probed.folder)
    assert "test_single_ablations.png" not in _pictures(probed.folder)


def test_a_component_that_never_acts_leaves_an_empty_picture_and_no_error(perfect, examples, run):
    with torch.no_grad():
        for name in ("linear1", "linear2"):
            perfect.model.importance_function.functions[name].weights[0].zero_()

    folder = run(perfect, Rows(examples), *_drawing()).folder

    assert {"test_single_ablations.png", "test_component_vectors_linear1.png"} <= _pictures(folder)


def test_a_trial_run_writes_nothing(tmp_path):
    every = [
        *_drawing(),
        ComponentActivity(),
        MechanismRecovery(chance_draws=1),
        TrainingLog(1),
        TensorBoardLayout(),
        FinalReport(),
        ExportDecomposition(),
    ]
    for callback in every:
        callback.every_n_validations = 1

    trainer = fit(toy(), features(), tmp_path, callbacks=every, fast_dev_run=True, limit_val_batches=None)
    with expected_notices():
        trainer.test(toy(), datamodule=features(), verbose=False)

    assert (
        "val/ablation/worst_case" in trainer.callback_metrics or "test/ablation/worst_case" in trainer.callback_metrics
    )
    assert _files(tmp_path) == set()


def test_the_layout_groups_the_scalars_that_are_logged(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False)
    scoring = [ComponentActivity(), AblationCheck(), MechanismRecovery(chance_draws=1)]

    fit(
        toy(),
        features(),
        tmp_path,
        logger=logger,
        callbacks=[TensorBoardLayout(), TrainingLog(1), *scoring],
        **VALIDATED,
    )

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    tags = events.Tags()["scalars"]
    (written,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    shown = {
        chart.title: {tag for tag in tags for pattern in chart.multiline.tag if re.match(pattern, tag)}
        for category in layout.category
        for chart in category.chart
    }
    sites = ("linear1", "linear2")
    regimes = ("unmasked", "ci_masked", "rounded", "zero", "stochastic", "worst_case", "constant")
    assert shown == {
        "total loss": {"train/loss"},
        "L0 over all sites": {"headline/l0"},
        "relative distances: shares of what ablating everything costs": {
            f"headline/relative_distance/{name}" for name in ("unmasked", "ci_masked", "rounded", "worst_case")
        },
        "L0 as a share of what is alive": {"headline/l0_of_alive"},
        "reconstruction": {"train/stochastic", "train/layerwise"},
        "faithfulness": {"train/faithfulness"},
        "importance": {"train/importance"},
        "learning rate": {"train/lr"},
        "gradient norm before clipping": {"train/gradient_norm/components", "train/gradient_norm/importance"},
        "L0 per site": {f"val/l0/{site}" for site in sites},
        "alive per site": {f"val/alive/{site}" for site in sites},
        "MMCS and chance": {f"val/recovery/{site}/{name}" for site in sites for name in ("mmcs", "chance_mmcs")},
        "ML2R": {f"val/recovery/{site}/ml2r" for site in sites},
        "contradictions": {f"val/recovery/{site}/identity_contradictions_{t}" for site in sites for t in (0.1, 0.2)},
        "neuron contributions, Pearson r": set(),  # of residual MLPs
        "distance per regime": {f"val/ablation/{name}" for name in regimes},
    }


class StopAfterTwo(Callback):
    """Ends the run early."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 2


def test_a_finished_run_exports_what_it_trained(tmp_path):
    module = toy()

    fit(module, features(), tmp_path, callbacks=[ExportDecomposition()])

    restored = DecomposedModel.from_pretrained(tmp_path)
    for name, tensor in module.model.state_dict().items():
        assert torch.equal(restored.state_dict()[name], tensor), name


def test_a_target_that_checkpoints_leave_out_is_not_exported_either(tmp_path):
    fit(toy(save_target=False), features(), tmp_path, callbacks=[ExportDecomposition()])

    assert json.loads((tmp_path / "config.json").read_text())["target_included"] is False


def test_a_run_that_ended_early_exports_nothing(tmp_path):
    trainer = fit(toy(), features(), tmp_path, callbacks=[StopAfterTwo(), ExportDecomposition()])

    assert trainer.global_step == 2
    assert _files(tmp_path) == set()


def test_a_run_that_failed_exports_nothing(tmp_path):
    bad = Batches(torch.rand(4, 5), torch.full((4, 5), float("nan")))

    with pytest.raises(UsageError, match="at step 1"):
        fit(toy(), bad, tmp_path, max_steps=2, callbacks=[ExportDecomposition()])

    assert _files(tmp_path) == {"non_finite/step=1.pt"}  # the step, to repeat it


def _predict(module, batches, path):
    trainer = make_trainer(path.parent, callbacks=[PredictionWriter(str(path))])
    with expected_notices():
        trainer.predict(module, Batches(*batches), return_predictions=False)
    return module.model.importance_of(torch.cat(batches))


def test_a_table_has_a_row_per_example_and_position(tmp_path):
    batches = [torch.rand(2, 3, 5), torch.rand(1, 3, 5)]

    expected = _predict(toy(), batches, tmp_path / "ci.csv")

    with (tmp_path / "ci.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["example", "position", *(f"{s}:{c}" for s in ("linear1", "linear2") for c in range(6))]
    assert [(int(row["example"]), int(row["position"])) for row in rows] == [(e, p) for e in range(3) for p in range(3)]
    for site, importance in expected.items():
        table = [[float(row[f"{site}:{c}"]) for c in range(6)] for row in rows]
        torch.testing.assert_close(torch.tensor(table).reshape(3, 3, 6), importance.lower.detach())


def test_tensors_keep_their_shape(tmp_path):
    expected = _predict(toy(), [torch.rand(2, 3, 4, 5)], tmp_path / "ci.pt")

    saved = torch.load(tmp_path / "ci.pt", weights_only=True)
    assert list(saved) == ["linear1", "linear2"]
    for site, importance in expected.items():
        torch.testing.assert_close(saved[site], importance.lower.detach())


def test_a_table_of_more_axes_names_them(tmp_path):
    _predict(toy(), [torch.rand(1, 2, 2, 5)], tmp_path / "ci.csv")

    lines = (tmp_path / "ci.csv").read_text().splitlines()
    assert lines[0].startswith("example,position,axis2,linear1:0")
    assert [line[:5] for line in lines[1:]] == ["0,0,0", "0,0,1", "0,1,0", "0,1,1"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "there.csv").write_text("mine")

    with pytest.raises(UsageError, match=r"--output must end in .csv or .pt, got 'ci.json'"):
        PredictionWriter("ci.json")
    with pytest.raises(UsageError, match=r"there.csv' exists; choose another name or remove it"):
        PredictionWriter(str(tmp_path / "there.csv"))


def test_every_callback_can_be_named_from_one_place():
    assert sorted(callbacks.__all__) == callbacks.__all__
    assert all(issubclass(getattr(callbacks, name), Callback) for name in callbacks.__all__)
