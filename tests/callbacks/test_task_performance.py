"""Accuracy and cross entropy by the labels of the data."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from spd_lightning import DatasetBatches, StochasticDecomposition
from spd_lightning.callbacks import TaskPerformance


def _decomposition():
    torch.manual_seed(3)
    return StochasticDecomposition(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), {"0": 5, "2": 5})


def _data(labels, batch=4):
    x = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(1))
    return x, DatasetBatches(TensorDataset(x, labels), TensorDataset(x, labels), batch_size=4, val_batch_size=batch)


def test_scores_are_those_of_all_rows_whatever_the_batches(run):
    labels = torch.randint(3, (10,), generator=torch.Generator().manual_seed(2))
    x, data = _data(labels)
    module = _decomposition()

    scores = run(module, data, TaskPerformance()).scores

    with torch.no_grad():
        logits = module.target(x)
        ones = {name: torch.ones(10, 5) for name in ("0", "2")}
        unmasked = module.model.masked(x, ones).output
    for name, output in (("target", logits), ("unmasked", unmasked)):
        accuracy = (output.argmax(-1) == labels).float().mean()
        torch.testing.assert_close(scores[f"test/task/accuracy/{name}"], accuracy.item())
        torch.testing.assert_close(scores[f"test/task/cross_entropy/{name}"], cross_entropy(output, labels).item())
    assert {name.split("/")[-1] for name in scores if name != "step"} == {
        "target",
        "unmasked",
        "ci_masked",
        "rounded",
        "stochastic",
        "zero",
    }


def test_rows_without_a_label_do_not_count(run):
    labels = torch.tensor([0, 1, 2, -100, -100, 1])
    x, data = _data(labels, batch=6)
    module = _decomposition()

    scores = run(module, data, TaskPerformance()).scores

    with torch.no_grad():
        expected = cross_entropy(module.target(x), labels, ignore_index=-100)
    torch.testing.assert_close(scores["test/task/cross_entropy/target"], expected.item())


def test_what_are_no_labels_is_passed_over(run):
    for labels in (torch.tensor([0, 1, 2, 3]), torch.rand(4), torch.zeros(4, 2, dtype=torch.long)):
        assert run(_decomposition(), _data(labels)[1], TaskPerformance()).scores.keys() <= {"step"}
