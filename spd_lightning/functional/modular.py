"""Sums modulo a prime: the numbers, the pairs, and which of them are held out."""

import math

import torch
from torch import Generator, Tensor


def is_odd_prime(number: int) -> bool:
    """Whether a whole number is a prime above 2."""
    return number > 2 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def number_pairs(modulus: int) -> tuple[Tensor, Tensor]:
    """The addition table.

    Args:
        modulus: number of numbers.

    Returns:
        All pairs ``[modulus², 2]``, the second number the faster, and their sums modulo the modulus, ``[modulus²]``.
    """
    numbers = torch.arange(modulus)
    pairs = torch.cartesian_prod(numbers, numbers)
    return pairs, pairs.sum(1) % modulus


def split_rows(count: int, fraction: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two sets of row numbers at random, without a common one.

    Args:
        count: number of rows, at least 2.
        fraction: share of the first set, in (0, 1); neither set is left empty.
        generator: where the randomness comes from.

    Returns:
        Row numbers of the first set and of the second.
    """
    first = min(max(round(fraction * count), 1), count - 1)
    order = torch.randperm(count, generator=generator)
    return order[:first], order[first:]
