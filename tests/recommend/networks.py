"""Networks whose ranks, dimensions and features are known, and a class of one's own with its data."""

import torch
from torch import nn
from torch.utils.data import Dataset

from spd_lightning.data import SparseFeatures


def sparse(features=6, probability=0.2, batch=512, **options):
    """Sparse features between 0 and 1; no batch merges its empty rows unless it is asked to."""
    return SparseFeatures(features, probability, batch_size=batch, **{"merge_empty": False, "seed": 3, **options})


class Squeezed(nn.Module):
    """Six features in three dimensions and back, through weights of rank 3, then a layer of rank 2."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.down, self.up, self.out = (nn.Linear(*size, bias=False) for size in ((6, 3), (3, 6), (6, 6)))
        with torch.no_grad():
            down = torch.randn(3, 6, generator=generator)
            self.down.weight.copy_(down)
            self.up.weight.copy_(down.T)
            left, right = torch.randn(6, 2, generator=generator), torch.randn(2, 6, generator=generator)
            self.out.weight.copy_(left @ right)

    def forward(self, x):
        return self.out(self.up(self.down(x)))


class Mixed(nn.Module):
    """A network with one module of every fate."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(7, 4), nn.LayerNorm(4)
        self.qkv, self.mix = nn.Linear(4, 12), nn.Linear(4, 4)
        self.unused, self.silent, self.direct = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.grouped = nn.Conv1d(4, 4, 1, groups=2)
        self.free = nn.Parameter(torch.randn(4, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        h = self.norm(self.table(tokens))
        q, k, v = self.qkv(h).chunk(3, -1)
        h = h + self.mix((q * k).tanh() + v) + nn.functional.linear(h, self.direct.weight) @ self.free
        h = h + self.grouped(h.transpose(1, 2)).transpose(1, 2) + self.attention(h, h, h)[0]
        return self.head(h + (self.silent(h) - 100).relu())


class Own(nn.Module):
    """A class of one's own, named by import path."""

    def __init__(self, width=5):
        super().__init__()
        self.up, self.down = nn.Linear(4, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.down(self.up(x).tanh())


class Points(Dataset):
    """Dense examples, as many as wanted."""

    def __init__(self, size=64, width=4, fails=False):
        self.x, self.fails = torch.randn(size, width, generator=torch.Generator().manual_seed(4)), fails

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        if self.fails:
            raise OSError("the disk is gone")
        return self.x[index]
