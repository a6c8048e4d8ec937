"""Handwritten digits, 8 by 8 pixels, from scikit-learn, which ships them."""

from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spd_lightning.errors import check_choice, missing_extra

Split = Literal["train", "test"]
EVERY = 5
"""One image in so many is kept for testing."""


class Digits(Dataset[tuple[Tensor, int]]):
    """1797 images of ten digits; nothing is downloaded.

    Each example is the pixels, ``[64]`` in [0, 1], row by row, and which digit it is.

    Args:
        split: ``"train"`` or ``"test"``: every fifth image.

    Raises:
        UsageError: for another split, or where scikit-learn is missing.
    """

    image_shape = (8, 8)
    """How an example is looked at."""

    def __init__(self, split: Split = "train") -> None:
        check_choice("data: split", split, ("train", "test"))
        self.split = split
        images, digits = _read()
        tested = torch.arange(len(digits)) % EVERY == EVERY - 1
        chosen = tested if split == "test" else ~tested
        self.images, self.labels = images[chosen], digits[chosen].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def _read() -> tuple[Tensor, Tensor]:
    """All images ``[1797, 64]`` and digits ``[1797]``."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_extra("data: Digits", "scikit-learn", "digits") from None
    images, digits = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
