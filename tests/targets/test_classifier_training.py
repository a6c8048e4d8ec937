"""A classifier is trained once, on what it is given."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from spd_lightning import CNN, MLP, ClassifierTraining, Digits, UsageError


def _blobs(size=200):
    labels = torch.arange(size) % 3
    x = torch.eye(3)[labels] + 0.1 * torch.randn(size, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, labels)


def _accuracy(network, examples):
    x, labels = examples[:]
    return (network(x).argmax(-1) == labels).float().mean().item()


def test_a_classifier_learns_what_it_is_shown(cache):
    network, examples = MLP([3, 8, 3]), _blobs()

    ClassifierTraining(examples, steps=300, batch_size=32).prepare(network)

    assert _accuracy(network, examples) == 1.0


def test_it_is_trained_once_and_again_for_other_examples(cache, monkeypatch):
    trained = []
    monkeypatch.setattr(
        ClassifierTraining, "loss", lambda self, network, step: trained.append(1) or network(self.examples[0]).sum()
    )
    for examples in (_blobs(), _blobs(), _blobs(100)):
        ClassifierTraining(examples, steps=2, batch_size=8).prepare(MLP([3, 3]))

    assert len(trained) == 2 * 2


def test_one_seed_one_target(cache):
    states = []
    for seed in (0, 0, 1):
        network = MLP([3, 4, 3])
        recipe = ClassifierTraining(_blobs(), steps=20, batch_size=16, seed=seed)
        states.append(recipe._train(network)["fc1.weight"])

    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def _started_with(monkeypatch, accuracies):
    """Lets every start have the next of the accuracies; counts the starts."""
    begun, real = [], ClassifierTraining.reset
    monkeypatch.setattr(ClassifierTraining, "reset", lambda self, network: begun.append(1) or real(self, network))
    monkeypatch.setattr(ClassifierTraining, "accuracy", lambda self, network: accuracies[len(begun) - 1])
    return begun


def test_other_starts_are_tried_until_one_will_do(cache, monkeypatch):
    begun = _started_with(monkeypatch, [0.4, 0.89, 0.9, 1.0])
    network, recipe = MLP([3, 4, 3]), ClassifierTraining(_blobs(), steps=1, batch_size=9, starts=4, least_accuracy=0.9)

    recipe.prepare(network)

    assert len(begun) == 3
    once = MLP([3, 4, 3])
    ClassifierTraining(_blobs(), steps=1, batch_size=9).prepare(once)
    assert not torch.equal(network.fc1.weight, once.fc1.weight)  # another start is another draw


def test_a_target_that_will_not_do_is_warned_about_from_the_cache_too(cache, monkeypatch):
    begun = _started_with(monkeypatch, [0.4, 0.512])
    for _ in range(2):
        recipe = ClassifierTraining(_blobs(), steps=1, batch_size=9, starts=2, least_accuracy=0.9)
        with pytest.warns(UserWarning, match=r"names 51\.2% of its examples right after 2 starts, and .* 90\.0%"):
            recipe.prepare(MLP([3, 3]))

    assert len(begun) == 2


def test_accuracy_counts_every_example_once():
    network, x = MLP([3, 3]), torch.eye(3)[[0, 1, 2, 0, 1]]
    with torch.no_grad():
        network.fc1.weight.copy_(torch.eye(3))
        network.fc1.bias.zero_()
    examples = TensorDataset(x, torch.tensor([0, 1, 0, 0, 2]))

    assert ClassifierTraining(examples, steps=1, batch_size=2).accuracy(network) == 3 / 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"starts": 0}, "recipe: starts must be at least 1, got 0"),
        ({"starts": 2}, "recipe: starts above 1 need a least_accuracy above 0 to go by, got 2 starts"),
        ({"least_accuracy": 1.5}, r"recipe: least_accuracy must lie in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_starts_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        ClassifierTraining(_blobs(), **settings)


def test_what_cannot_be_trained_is_named(cache):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.scale

    with pytest.raises(UsageError, match="cannot start a Own anew"):
        ClassifierTraining(_blobs(), steps=1, batch_size=2).prepare(Own())
    with pytest.raises(UsageError, match="pairs of a tensor and a whole number"):
        ClassifierTraining(TensorDataset(torch.zeros(4, 3)), steps=1, batch_size=2).prepare(MLP([3, 3]))


@pytest.mark.parametrize("widths", [[3], [3, 0], [3, 2.5], 4, "34"])
def test_widths_that_make_no_network_are_refused(widths):
    with pytest.raises(UsageError, match="target: widths"):
        MLP(widths)


def test_a_convolutional_network_is_its_layers_by_hand():
    network = CNN([2, 5, 4], [3, 4], classes=6)
    x = torch.rand(7, 2, 5, 4, generator=torch.Generator().manual_seed(0))

    padded = torch.zeros(7, 2, 7, 6)
    padded[:, :, 1:-1, 1:-1] = x
    first, kernels = torch.zeros(7, 3, 2, 2), network.conv1
    for row in range(2):
        for column in range(2):
            seen = [
                (padded[:, None, :, a : a + 3, b : b + 3] * kernels.weight).sum((2, 3, 4)) + kernels.bias
                for a in (2 * row, 2 * row + 1)
                for b in (2 * column, 2 * column + 1)
            ]
            first[..., row, column] = torch.stack(seen).amax(0).relu()
    around = torch.zeros(7, 3, 4, 4)
    around[:, :, 1:-1, 1:-1] = first
    kernels = network.conv2
    seen = [
        (around[:, None, :, a : a + 3, b : b + 3] * kernels.weight).sum((2, 3, 4)) + kernels.bias
        for a in (0, 1)
        for b in (0, 1)
    ]
    expected = network.fc(torch.stack(seen).amax(0).relu())

    assert torch.allclose(network(x), expected, atol=1e-6)
    assert torch.equal(network(x.flatten(1)), network(x)), "flat images are the same images"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_shape": [8, 8]}, "image_shape must be channels, height and width"),
        ({"image_shape": [1, 0, 8]}, "image_shape: each"),
        ({"channels": []}, "channels must name 1 to 3 convolutions"),
        ({"channels": [2, 2, 2, 2]}, "channels must name 1 to 3 convolutions for images of 8 by 8"),
        ({"channels": [2.5]}, "channels: each"),
        ({"classes": 0}, "classes"),
        ({"kernel_size": 2}, "kernel_size must be odd, got 2"),
    ],
)
def test_sizes_that_make_no_convolutional_network_are_refused(given, said):
    with pytest.raises(UsageError, match=f"target: {said}"):
        CNN(**{"image_shape": [1, 8, 8], "channels": [4], "classes": 10, **given})


def test_digits_are_split_into_images_that_do_not_overlap():
    train, test = Digits("train"), Digits("test")

    assert len(train) + len(test) == 1797
    assert len(test) == 1797 // 5
    assert train[0][0].shape == (64,)
    assert 0 <= min(image.min() for image, _ in train) <= max(image.max() for image, _ in train) <= 1
    assert {label for _, label in test} == set(range(10))
    with pytest.raises(UsageError, match="split"):
        Digits("val")
