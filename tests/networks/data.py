"""Examples of the networks of the list, as a data set that a config can name."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tests.networks.zoo import example


class Examples(Dataset):
    """Fixed examples, one row each, in the form that the network takes.

    Args:
        network: name in the list.
        batches: how many batches of the list's size it holds.
        first: number of the first one.
    """

    def __init__(self, network: str, batches: int = 4, first: int = 0) -> None:
        made = [example(network, first + number) for number in range(batches)]
        self.rows = [row for batch in made for row in _rows(batch)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def _rows(batch: Any) -> list[Any]:
    if isinstance(batch, Tensor):
        return list(batch)
    if isinstance(batch, dict):
        return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    return list(zip(*batch, strict=True))


def saved_weights(network: torch.nn.Module, path: str) -> str:
    """Keep a network's weights in a file."""
    torch.save(network.state_dict(), path)
    return path
