"""Token sequences of a task that attention solves."""

import torch
from torch import Generator, Tensor


def induction_sequences(rows: int, vocabulary: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Sequences ``... T S ... T``, to be answered with ``S``.

    ``T`` stands at the end and once before, at position 1 at least and with something between; ``S`` follows it. All
    other tokens are drawn from those that are not ``T``.

    Args:
        rows: number of sequences.
        vocabulary: number of tokens, at least 2.
        length: of a sequence, at least 4.
        generator: where the randomness comes from.

    Returns:
        Tokens ``[rows, length]`` and answers ``[rows]``.
    """
    trigger = torch.randint(vocabulary, (rows, 1), generator=generator)
    others = torch.randint(1, vocabulary, (rows, length), generator=generator)
    tokens = (trigger + others) % vocabulary  # never the trigger
    first = torch.randint(1, length - 2, (rows, 1), generator=generator)
    answers = tokens.gather(1, first + 1)[:, 0]
    tokens = tokens.scatter(1, first, trigger)
    tokens[:, -1:] = trigger
    return tokens, answers


def name_sequences(rows: int, names: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Sequences ``A B A`` or ``A B B`` and an end, to be answered with the name that stands once.

    Args:
        rows: number of sequences.
        names: number of names, at least 2; the end is token ``names``.
        generator: where the randomness comes from.

    Returns:
        Tokens ``[rows, 4]`` and answers ``[rows]``.
    """
    first = torch.randint(names, (rows,), generator=generator)
    second = (first + torch.randint(1, names, (rows,), generator=generator)) % names
    repeated = torch.where(torch.rand(rows, generator=generator) < 0.5, first, second)
    end = torch.full_like(first, names)
    return torch.stack([first, second, repeated, end], dim=1), first + second - repeated
