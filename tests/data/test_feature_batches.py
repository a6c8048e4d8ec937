"""Sparse features: what a batch depends on, and how it is distributed."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from spd_lightning import SparseFeatures, UsageError
from spd_lightning.data import KeyedBatches
from tests.methods.tiny import Probe, features, fit, toy, toy_target


def trainer_at(rank=0, processes=1, global_step=0, accumulate=1, seed=0):
    """As much of a trainer as data modules look at."""
    module = SimpleNamespace(seed=seed, target=toy_target())
    return SimpleNamespace(
        global_rank=rank,
        world_size=processes,
        global_step=global_step,
        accumulate_grad_batches=accumulate,
        lightning_module=module,
    )


def _attached(**options):
    data = features()
    data.trainer = trainer_at(**options)
    return data


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    data = features()
    later = data.batch("train", 5, 4)
    for index in range(5):
        data.batch("train", index, 4)
    torch.manual_seed(123)
    torch.rand(10)

    assert torch.equal(data.batch("train", 5, 4), later)
    assert torch.equal(features().batch("train", 5, 4), later)


@pytest.mark.parametrize(
    ("data", "purpose", "index"),
    [
        (features(), "train", 1),
        (features(), "val", 0),
        (features(), "test", 0),
        (features(seed=1), "train", 0),
        (_attached(seed=1), "train", 0),
    ],
    ids=["index", "val", "test", "seed", "seed of the decomposition"],
)
def test_another_key_gives_another_batch(data, purpose, index):
    assert not torch.equal(data.batch(purpose, index, 16), features().batch("train", 0, 16))


def test_the_seed_is_the_decompositions_unless_one_is_given():
    data = features(seed=0)
    data.trainer = trainer_at(seed=1)

    assert torch.equal(data.batch("train", 0, 16), features().batch("train", 0, 16))
    assert torch.equal(_attached(seed=1).batch("train", 0, 16), features(seed=1).batch("train", 0, 16))


@pytest.mark.parametrize("processes", [2, 3, 16])
def test_processes_share_a_batch_row_by_row(processes):
    shares = [_attached(rank=rank, processes=processes).batch("train", 3, 16) for rank in range(processes)]

    assert torch.equal(torch.cat(shares), features().batch("train", 3, 16))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_rows_are_refused():
    with pytest.raises(UsageError, match="16 rows cannot be shared by 17 processes; raise batch_size"):
        _attached(processes=17).batch("train", 0, 16)


def test_drawing_a_batch_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    features().batch("train", 0, 16)

    assert torch.equal(torch.rand(3), undisturbed)


@pytest.mark.parametrize(("accumulate", "first"), [(1, 7), (3, 21)])
def test_training_goes_on_at_the_first_batch_not_yet_seen(accumulate, first):
    data = _attached(global_step=7, accumulate=accumulate)

    batches = list(islice(data.train_dataloader(), 3))

    for offset, batch in enumerate(batches):
        assert torch.equal(batch, data.batch("train", first + offset, 16))


def test_where_training_starts_is_asked_when_it_starts():
    data = _attached()
    loader = data.train_dataloader()
    data.trainer.global_step = 4

    assert torch.equal(next(iter(loader)), data.batch("train", 4, 16))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_sees_every_batch_once(accumulate, tmp_path):
    data, probe = features(), Probe(lambda trainer, module, outputs, batch: batch)

    fit(toy(), data, tmp_path, max_steps=3, accumulate_grad_batches=accumulate, callbacks=[probe])

    assert len(probe.seen) == 3 * accumulate
    for index, batch in enumerate(probe.seen):
        assert torch.equal(batch, data.batch("train", index, 16))


@pytest.mark.parametrize("name", ["val", "test"])
def test_evaluation_sees_the_same_few_batches_every_time(name):
    data = _attached(global_step=7)
    loader = getattr(data, f"{name}_dataloader")()

    first, again = list(loader), list(loader)

    assert len(loader) == len(first) == 2
    assert [batch.shape for batch in first] == [(8, 5), (8, 5)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


def test_validation_and_test_share_no_batch_with_each_other_or_with_training():
    data = features(batch_size=8)
    seen = [*data.val_dataloader(), *data.test_dataloader(), *islice(data.train_dataloader(), 2)]

    assert len({tuple(batch.flatten().tolist()) for batch in seen}) == 6


def test_features_are_sparse_independent_and_uniform():
    data = features(feature_probability=0.3, value_min=-1.0, value_max=0.5)

    x = data.batch("train", 0, 20_000)

    active = x != 0
    values = x[active]
    assert active.float().mean().item() == pytest.approx(0.3, abs=0.006)  # four standard deviations
    assert active.float().mean(0).tolist() == pytest.approx([0.3] * 5, abs=0.013)
    assert (values.min().item(), values.max().item()) == pytest.approx((-1.0, 0.5), abs=1e-3)
    assert values.mean().item() == pytest.approx(-0.25, abs=0.01)
    assert values.std().item() == pytest.approx(1.5 / 12**0.5, abs=0.01)
    off_diagonal = torch.corrcoef(active.T.float()) - torch.eye(5)
    assert off_diagonal.abs().max() < 0.03
    # rows without any feature are kept
    assert (~active.any(1)).float().mean().item() == pytest.approx(0.7**5, abs=0.011)


def test_every_feature_can_be_on():
    assert (features(feature_probability=1.0, value_min=0.5).batch("train", 0, 100) >= 0.5).all()


def test_probes_switch_on_one_feature_each():
    assert torch.equal(features().probes(), 0.75 * torch.eye(5))
    assert torch.equal(features().probes(2.0), 2 * torch.eye(5))
    (batch,) = features().predict_dataloader()
    assert torch.equal(batch, features().probes())


def test_an_endless_stream_has_no_length():
    assert not hasattr(KeyedBatches(lambda index: torch.tensor(index)), "__len__")
    assert [int(i) for i in KeyedBatches(lambda index: torch.tensor(index), start=lambda: 3, count=2)] == [3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "data: n_features must be at least 1, got 0"),
        ({"batch_size": 0}, "data: batch_size must be at least 1, got 0"),
        ({"val_batches": 0}, "data: val_batches must be at least 1, got 0"),
        ({"val_batch_size": -1}, "data: val_batch_size must be at least 1, got -1"),
        ({"feature_probability": 0.0}, r"feature_probability must lie in \(0, 1\], got 0.0"),
        ({"feature_probability": 1.1}, "got 1.1"),
        ({"feature_probability": float("nan")}, "got nan"),
        ({"value_min": 1.0, "value_max": 1.0}, "value_min must be below value_max, got 1.0 and 1.0"),
        ({"value_min": 2.0}, "got 2.0 and 1.0"),
        ({"value_max": float("inf")}, "got 0.0 and inf"),
        ({"value_min": float("nan")}, "got nan and 1.0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SparseFeatures(**({"n_features": 5} | options))


def test_a_width_that_is_not_the_targets_is_refused_before_training(tmp_path):
    module = toy()
    before = module.model.components["linear1"].V.detach().clone()

    with pytest.raises(UsageError, match="data: n_features is 4, but the target takes 5; make them equal"):
        fit(module, features(n_features=4), tmp_path)

    assert torch.equal(module.model.components["linear1"].V, before)
