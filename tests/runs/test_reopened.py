"""A run that is opened again has the decomposition that it wrote and the batches that it was scored on."""

import shutil

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, SparseFeatures, ToyModelOfSuperposition, UsageError
from spd_lightning.functional import keyed_generator, sparse_features
from spd_lightning.runs.reopened import reopened
from tests.networks.zoo import ZOO, network

DATA = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 3, "val_batches": 3, "val_batch_size": 6},
}
KL = {"class_path": "spd_lightning.Reconstruction", "init_args": {"distance": "kl"}}


def _run(folder, data=None, losses=None, trainer=None, seed=7, model=None):
    """A run directory without a run."""
    model = model or DecomposedModel(
        ToyModelOfSuperposition(3, 2), {"linear*": 4}, ties={"linear2": "linear1"}, seed=seed
    )
    model.save_pretrained(folder)
    config = {"seed_everything": seed, "trainer": trainer or {}, "model": {"losses": losses}, "data": data or DATA}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_batches_are_those_of_the_run_s_test(tmp_path):
    run = reopened(_run(tmp_path, trainer={"limit_test_batches": 2}))
    for _ in range(2):
        batches = list(run.batches)
        assert len(batches) == 2
        for number, batch in enumerate(batches):
            generator = keyed_generator(7, "test", number, 0)
            assert torch.equal(batch, sparse_features(6, 3, 0.05, (0.0, 1.0), generator))
    assert run.model.site_names == ["linear1", "linear2"]
    assert run.tokenizer is None


@pytest.mark.parametrize(("limit", "count"), [(None, 3), (0.7, 2), (1, 1), (1.0, 3)])
def test_a_run_s_limit_of_batches_holds(limit, count, tmp_path):
    assert len(list(reopened(_run(tmp_path, trainer={"limit_test_batches": limit})).batches)) == count


def test_data_with_a_seed_keeps_it(tmp_path):
    data = {**DATA, "init_args": {**DATA["init_args"], "seed": 5}}
    (first, *_) = reopened(_run(tmp_path, data)).batches
    assert torch.equal(first, SparseFeatures(3, val_batch_size=6, seed=5).batch("test", 0, 6))


@pytest.mark.parametrize(
    ("losses", "distance"),
    [
        (None, "mse"),
        ({"off": None, "first": KL}, "kl"),
        ({"x": {"class_path": "spd_lightning.Faithfulness"}}, "mse"),
        ({"old": {"class_path": "spd_lightning.Faithfulness", "init_args": {"gone": 1}}, "first": KL}, "kl"),
    ],
)
def test_the_distance_is_the_trained_one(losses, distance, tmp_path):
    assert reopened(_run(tmp_path, losses=losses)).distance == distance


def test_datasets_of_one_s_own_are_built_where_they_are_imported(tmp_path):
    examples = {"class_path": "tests.networks.data.Examples", "init_args": {"network": "pooled head", "batches": 2}}
    data = {
        "class_path": "spd_lightning.DatasetBatches",
        "init_args": {"train": examples, "val": examples, "batch_size": 4, "val_batch_size": 4},
    }
    model = DecomposedModel(network("pooled head"), ZOO["pooled head"].sites)
    run = reopened(_run(tmp_path, data, model=model), import_classes=True)
    assert [batch.shape for batch in run.batches] == [(4, 5, 8)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is this the directory of a finished run"),
        (lambda folder: (folder / "components.safetensors").write_bytes(b"no"), "damaged or not a safetensors file"),
        (
            lambda folder: (folder / "config.yaml").unlink(),
            "config.yaml is missing; it names the run's data, and fit writes it",
        ),
        (lambda folder: (folder / "config.yaml").write_text("- [1"), "it names the run's data, and fit writes it"),
        (lambda folder: (folder / "config.yaml").write_text("model: {}"), "is damaged: it has no data"),
        (
            lambda folder: (folder / "config.yaml").write_text("model: {}\ndata: {class_path: nowhere.Data}"),
            "config.yaml: data is 'nowhere.Data', which is no imported LightningDataModule",
        ),
        (
            lambda folder: (folder / "config.yaml").write_text(
                "model: {}\ndata: {class_path: spd_lightning.SparseFeatures, init_args: {width: 3}}"
            ),
            "config.yaml: data: spd_lightning.SparseFeatures takes no 'width'; it is damaged, or",
        ),
        (
            lambda folder: (folder / "config.yaml").write_text(
                "model: {}\ndata: {class_path: spd_lightning.DatasetBatches, init_args: {train: {class_path: "
                "subprocess.Popen, init_args: {args: 'true'}}}}"
            ),
            "config.yaml: data.train is 'subprocess.Popen', which is no imported Dataset",
        ),
        (
            lambda folder: (folder / "config.yaml").write_text(
                yaml.safe_dump({"model": {"losses": {"first": {**KL, "init_args": {"gone": 1}}}}, "data": DATA})
            ),
            "config.yaml: losses: first: spd_lightning.Reconstruction takes no 'gone'",
        ),
        (shutil.rmtree, "is this the directory of a finished run"),
    ],
)
def test_runs_that_cannot_be_opened_are_one_line(change, message, tmp_path):
    folder = _run(tmp_path / "run")
    change(folder)
    with pytest.raises(UsageError) as refused:
        reopened(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
