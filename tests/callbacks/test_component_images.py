"""Components on images: the right examples, the right effects."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from spd_lightning import CNN, DatasetBatches, StochasticDecomposition, UsageError
from spd_lightning.callbacks import ComponentImages
from spd_lightning.callbacks import component_images as module_of


@pytest.fixture
def module():
    torch.manual_seed(4)
    return StochasticDecomposition(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), {"0": 4, "2": 7})


@pytest.fixture
def data():
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(5))
    return x, DatasetBatches(TensorDataset(x), TensorDataset(x), batch_size=4, val_batch_size=8)


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the figure, by title."""
    seen, draw = {}, module_of.component_images
    monkeypatch.setattr(
        module_of, "component_images", lambda title, *given: seen.update({title: given}) or draw(title, *given)
    )
    return seen


def test_each_row_is_what_its_component_does(module, data, drawn, run):
    x, batches = data

    folder = run(module, batches, ComponentImages([2, 3], components=3, examples=2, threshold=0.0)).folder

    names, reads, examples, importances, effects = drawn["Components of 0 that matter most"]
    with torch.no_grad():
        lower = module.model.importance_of(x)["0"].lower
    assert [int(name) for name in names] == lower.mean(0).topk(3).indices.tolist()
    for row, number in enumerate(map(int, names)):
        assert torch.equal(reads[row].flatten(), module.model.components["0"].V[:, number])
        best = lower[:, number].topk(2)
        assert torch.equal(importances[row], best.values)
        assert torch.equal(examples[row].flatten(1), x[best.indices])
        alive = x[lower[:, number] > 0]
        with torch.no_grad():
            change = module.model(alive, ablated={"0": [number]}) - module.target(alive)
        torch.testing.assert_close(effects[row], change.mean(0))
    assert drawn["Components of 2 that matter most"][1] is None, "its inputs are no pixels"
    assert (folder / "figures" / "test_component_images_0.png").exists()


def test_a_convolution_is_drawn_patch_by_patch(drawn, run):
    torch.manual_seed(4)
    module = StochasticDecomposition(CNN([1, 4, 4], [3, 2], classes=3), {"conv1": 5, "conv2": 4, "fc": 4})
    x = torch.rand(12, 16, generator=torch.Generator().manual_seed(5))
    batches = DatasetBatches(TensorDataset(x), TensorDataset(x), batch_size=4, val_batch_size=5)

    run(module, batches, ComponentImages([4, 4], components=2, examples=3, threshold=0.0))

    names, reads, examples, importances, _ = drawn["Components of conv1 that matter most"]
    with torch.no_grad():
        lower = module.model.importance_of(x)["conv1"].lower
    assert lower.shape == (12, 4, 4, 5)
    for row, number in enumerate(map(int, names)):
        assert torch.equal(reads[row], module.model.components["conv1"].V[:, number].reshape(3, 3))
        best = lower[..., number].amax((1, 2)).topk(3)
        assert torch.equal(importances[row], best.values)
        assert torch.equal(examples[row].flatten(1), x[best.indices])
    assert drawn["Components of conv2 that matter most"][1] is None, "it reads no pixels"
    assert "Components of fc that matter most" in drawn


@pytest.mark.parametrize("shape", [[6], [2, 3, 1], [0, 6], "23", 6])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(UsageError, match="ComponentImages: image_shape"):
        ComponentImages(shape)


def test_images_of_another_size_are_named(module, data, run):
    with pytest.raises(UsageError, match=r"image_shape is \[3, 3\], but an example is \[6\]"):
        run(module, data[1], ComponentImages([3, 3]))
