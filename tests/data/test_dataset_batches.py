"""Datasets of one's own: which examples a step sees, whoever asks, and how often a run was interrupted."""

from itertools import chain, islice

import pytest
import torch
from torch.utils.data import IterableDataset

from spd_lightning import DatasetBatches, UsageError
from tests.data.examples import Examples
from tests.data.test_feature_batches import trainer_at
from tests.methods.tiny import Probe, fit, toy


def batches(trainer=None, **options):
    data = DatasetBatches(**({"train": Examples(10), "batch_size": 4, "val_batch_size": 4, "seed": 0} | options))
    data.trainer = trainer
    return data


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3)


def numbers(loader, count):
    """The numbers of the examples in each of the first batches."""
    return [index.tolist() for _, index in islice(loader, count)]


def joined(lists):
    return list(chain.from_iterable(lists))


def test_every_pass_sees_every_example_once_in_another_order():
    seen = joined(numbers(batches().train_dataloader(), 5))

    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert joined(numbers(batches(shuffle=False).train_dataloader(), 5)) == 2 * list(range(10))


def test_the_order_follows_the_seed():
    def first(**options):
        return numbers(batches(**options).train_dataloader(), 2)

    assert first() == first() != first(seed=1)
    assert first(seed=None, trainer=trainer_at(seed=1)) == first(seed=1)


@pytest.mark.parametrize(("step", "accumulate"), [(1, 1), (3, 1), (7, 1), (2, 3)])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_goes_on_at_the_first_batch_not_yet_seen(step, accumulate, num_workers):
    whole = numbers(batches().train_dataloader(), 12)
    data = batches(trainer_at(global_step=step, accumulate=accumulate), num_workers=num_workers)

    assert numbers(data.train_dataloader(), 4) == whole[step * accumulate : step * accumulate + 4]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_every_batch_row_by_row(processes):
    shares = [batches(trainer_at(rank=r, processes=processes), val=Examples(9)) for r in range(processes)]

    for name, count in (("train", 5), ("val", 3)):
        alone = numbers(getattr(batches(val=Examples(9)), f"{name}_dataloader")(), count)
        parts = [numbers(getattr(share, f"{name}_dataloader")(), count) for share in shares]
        assert [joined(rows) for rows in zip(*parts, strict=True)] == alone


def test_evaluation_sees_all_examples_in_their_order_in_even_batches():
    data = batches(val=Examples(9), test=Examples(5))

    assert numbers(data.val_dataloader(), 9) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert len(data.val_dataloader()) == 3
    assert numbers(data.test_dataloader(), 9) == [[0, 1], [2, 3, 4]]
    assert numbers(batches(val=Examples(3)).test_dataloader(), 9) == [[0, 1, 2]]
    assert numbers(batches(predict=Examples(3)).predict_dataloader(), 9) == [[0, 1, 2]]
    assert batches().val_dataloader() == []
    with pytest.raises(UsageError, match="data: predict must be a dataset to predict on; give one, or name a file"):
        batches().predict_dataloader()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_global_generator_alone(num_workers):
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    numbers(batches(num_workers=num_workers).train_dataloader(), 3)

    assert torch.equal(torch.rand(3), undisturbed)


def test_training_and_validation_take_the_examples(tmp_path):
    data = batches(train=Examples(10, width=5), val=Examples(9, width=5))
    probe = Probe(lambda trainer, module, outputs, batch: batch[1].tolist())

    trainer = fit(toy(), data, tmp_path, max_steps=6, limit_val_batches=1.0, val_check_interval=3, callbacks=[probe])

    assert probe.seen == numbers(batches(train=Examples(10, width=5)).train_dataloader(), 6)
    assert trainer.num_val_batches == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "data: batch_size is 11, but train holds 10; lower batch_size"),
        ({"batch_size": 0}, "data: batch_size must be at least 1, got 0"),
        ({"val_batch_size": 0}, "data: val_batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "data: num_workers must be at least 0, got -1"),
        ({"shuffle": 1}, "data: shuffle must be"),
        ({"seed": 0.5}, "data: seed must be"),
        ({"val": Examples(0)}, "data: val must hold examples, got none"),
        ({"train": Stream()}, "data: train must have a length and numbered examples, which Stream"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        batches(**options)
