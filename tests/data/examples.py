"""Examples of a dataset that a config can name."""

import torch
from torch.utils.data import Dataset

from spd_lightning.functional import keyed_generator


class Examples(Dataset):
    """Sparse examples that stay what they are, each a tuple of itself and its number."""

    def __init__(self, size: int = 30, width: int = 3) -> None:
        draw = torch.rand(2, size, width, generator=keyed_generator("examples", size))
        self.rows = draw[0] * (draw[1] < 0.5)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index], index
