"""Training batches with their empty rows merged."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from spd_lightning.functional import WeightedBatch, sparse_features
from tests.methods.tiny import Probe, features, fit, toy


def _sparse(**options):
    """Of 32 rows, 7 have a feature."""
    return features(**({"feature_probability": 0.05, "batch_size": 32} | options))


def _same(one, other):
    return torch.equal(one.x, other.x) and torch.equal(one.weights, other.weights)


def test_training_batches_are_merged():
    batch = _sparse().train_batch(0)
    assert isinstance(batch, WeightedBatch)
    assert batch.x.shape == (8, 5)
    assert ((batch.x != 0).any(1).tolist()) == [True] * 7 + [False]


def test_a_training_batch_is_the_same_whenever_it_is_asked_for():
    data = _sparse()
    later = data.train_batch(5)
    data.train_batch(0)
    torch.rand(10)
    assert _same(data.train_batch(5), later)
    assert _same(_sparse().train_batch(5), later)
    for other in (data.train_batch(6), _sparse(seed=1).train_batch(5)):
        assert not torch.equal(other.x, later.x)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    _sparse().train_batch(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_rows_and_weights():
    shares = []
    for rank in range(3):
        data = _sparse()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3, lightning_module=SimpleNamespace(seed=0))
        shares.append(data.train_batch(0))
    whole = _sparse().train_batch(0)
    assert torch.equal(torch.cat([share.x for share in shares]), whole.x)
    assert torch.equal(torch.cat([share.weights for share in shares]), whole.weights)


@pytest.mark.parametrize(("accumulate", "first"), [(1, 7), (3, 21)])
def test_training_goes_on_at_the_first_batch_not_yet_seen(accumulate, first):
    data = _sparse(seed=0)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, global_step=7, accumulate_grad_batches=accumulate)
    for offset, batch in enumerate(islice(data.train_dataloader(), 3)):
        assert _same(batch, data.train_batch(first + offset))


@pytest.mark.parametrize(
    "options",
    [
        {"merge_empty": False},
        {"batch_size": 2},
        {"feature_probability": 1.0},
        {"feature_probability": 0.9},
        {"feature_probability": 1e-4},
    ],
    ids=["not wanted", "too few rows", "all on", "no empty row", "no active row"],
)
def test_batches_without_gain_are_drawn_as_they_are(options):
    data = _sparse(**options)
    batch = data.train_batch(3)
    assert isinstance(batch, torch.Tensor)
    assert torch.equal(batch, data.batch("train", 3, data.batch_size))
    drawn = sparse_features(*data._distribution(data.batch_size), data._generator("train", 3))
    assert torch.equal(batch, drawn)


@pytest.mark.parametrize("name", ["val", "test"])
def test_evaluation_sees_whole_batches(name):
    for index, batch in enumerate(getattr(_sparse(), f"{name}_dataloader")()):
        assert batch.shape == (8, 5)
        assert torch.equal(batch, _sparse().batch(name, index, 8))


def test_the_trainer_hands_weights_to_the_method(tmp_path):
    data, probe = _sparse(), Probe(lambda trainer, module, outputs, batch: batch)
    fit(toy(), data, tmp_path, max_steps=3, callbacks=[probe])
    assert len(probe.seen) == 3
    for index, batch in enumerate(probe.seen):
        assert _same(batch, data.train_batch(index))
