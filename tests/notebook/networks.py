"""Small networks of everyday kinds, trained on the spot, with their data and sites."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import TensorDataset


def _trained(network, x, y, loss, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimizer.zero_grad()
        loss(network(x[rows]), y[rows]).backward()
        optimizer.step()
    return network


def regression():
    """A product, a magnitude and a wave of a few inputs."""
    x = 2 * torch.rand(4000, 6) - 1
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs(), (3 * x[:, 3]).sin() + x[:, 4]], 1)
    network = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    return _trained(network, x, y, F.mse_loss, 1500), x, {"0": 40, "2": 40, "4": 20}


def autoencoder():
    """Sparse codes in 16 dimensions, through 8."""
    codes = (torch.rand(4000, 8) < 0.15) * torch.rand(4000, 8)
    x = codes @ torch.randn(8, 16) / 4
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16))
    return _trained(network, x, x, F.mse_loss, 2000), x, {"0": 24, "2": 24}


class DeadLayer(nn.Module):
    """What ``dead`` puts out never passes its ReLU."""

    def __init__(self):
        super().__init__()
        self.a, self.dead, self.b = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(h + (self.dead(h) - 100).relu())


def dead_layer():
    """A layer that does nothing beside two that do."""
    x = 2 * torch.rand(4000, 6) - 1
    y = torch.stack([x[:, 0].abs(), x[:, 1] + x[:, 2]], 1)
    return _trained(DeadLayer(), x, y, F.mse_loss, 1000), x, {"a": 24, "dead": 24, "b": 8}


class Shapes(nn.Module):
    """Convolutions, and a head on the largest value of each channel."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.conv2(self.conv1(x).relu()).relu().amax((-1, -2)))


def cnn():
    """Upright bars, lying bars and squares somewhere in a small noisy image."""
    x, kinds = torch.zeros(1000, 1, 6, 6), torch.randint(3, (1000,))
    for image, kind, (row, column) in zip(x[:, 0], kinds, torch.randint(4, (1000, 2)), strict=True):
        height, width = ((3, 1), (1, 3), (2, 2))[kind]
        image[row : row + height, column : column + width] = 1
    x += 0.1 * torch.randn_like(x)
    return _trained(Shapes(), x, kinds, F.cross_entropy, 500), TensorDataset(x, kinds), {"conv*": 20, "head": 10}


class Sequences(nn.Module):
    """One attention head and an MLP over tokens, read off at the last one."""

    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(8, 16), nn.Parameter(0.1 * torch.randn(6, 16))
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)

    def forward(self, ids):
        h = self.embed(ids) + self.places
        pattern = (self.q(h) @ self.k(h).mT / 4).softmax(-1)
        h = h + self.o(pattern @ self.v(h))
        return self.head((h + self.down(self.up(h).relu()))[:, -1])


def transformer():
    """Whether the first token returns at the end, and whether a certain one is there at all."""
    ids = torch.randint(8, (3000, 6))
    labels = (ids[:, 0] == ids[:, -1]).long() + (ids == 3).any(1).long()
    network = _trained(Sequences(), ids, labels, F.cross_entropy, 1500)
    return network, TensorDataset(ids, labels), {"[qkvo]": 20, "up": 32, "down": 32, "head": 8}


NETWORKS = {maker.__name__: maker for maker in (regression, autoencoder, dead_layer, cnn, transformer)}
