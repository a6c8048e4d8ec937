"""How many different things a matrix does, and how many different things a set of vectors shows."""

import torch
from torch import Generator, Tensor

ROUNDING = 8
"""How many steps of its type, as a share of the largest, a singular value may come from rounding alone."""
SAME_DIRECTION = 1e-5
"""Angle in radians between two vectors that point the same way."""
FEWEST = 3
"""Vectors that a direction must hold: in a plane two of a thousand are as near to each other by chance."""
GROWTH = 1e-3
"""How much longer the longest vector of a direction must be than the shortest, as a share of it."""
COMPARED = 1024
"""Most vectors that are compared in pairs."""
ENOUGH = 0.01
"""Share of vectors that must lie on growing directions; by chance a few neurons of a dense network are on alone."""
LARGEST_SIDE = 2048
"""Of matrices whose singular values are computed here; those of larger ones take minutes."""


def numerical_rank(matrix: Tensor) -> int:
    """Number of singular values that rounding in the matrix's type does not explain.

    Args:
        matrix: ``[rows, columns]``; one of more than 2048 rows and columns counts as of full rank.

    Returns:
        Between 0 and the smaller side.
    """
    if min(matrix.shape) > LARGEST_SIDE:
        return min(matrix.shape)
    values = torch.linalg.svdvals(matrix.detach().double())
    step = ROUNDING * torch.finfo(matrix.dtype).eps
    return int((values > step * values.amax()).sum()) if values.numel() else 0


def effective_dimension(vectors: Tensor) -> float:
    """Participation ratio of the covariance's eigenvalues, ``(sum l)^2 / sum l^2``.

    It is ``d`` for vectors that vary alike in ``d`` orthogonal directions, and less where some vary more than others.

    Args:
        vectors: ``[n, d]``.

    Returns:
        At most ``min(n - 1, d)``; 0 where nothing varies.
    """
    centred = vectors.double() - vectors.double().mean(0)
    wide = centred.shape[1] > centred.shape[0]
    gram = centred @ centred.T if wide else centred.T @ centred  # the same eigenvalues but for zeros
    squares = gram.square().sum()
    return float(gram.trace() ** 2 / squares) if squares > 0 else 0.0


def growing_directions(vectors: Tensor) -> int:
    """Directions, up to sign, along which several vectors lie at different lengths (ours).

    A feature that varies in strength leaves such a line wherever it is alone, and a mixture of several that vary by
    themselves never points the same way twice. So this is a lower bound on the number of sparse features. What is seen
    again at the same length does not count: it may be the same example. The bound is 0 for dense data, for features of
    one strength, where a bias is added to all vectors, and in half precision, which rounds directions. Behind a ReLU it
    is none: a feature of either sign leaves two lines there, and a neuron that is on by itself another.

    Args:
        vectors: ``[n, d]``, none of them 0; compared in pairs, so no more than some thousands.

    Returns:
        Their number.
    """
    return int(_growing(vectors)[0].sum())


def shows_features(vectors: Tensor, generator: Generator) -> bool:
    """Whether features come one at a time: 1% of the vectors or more lie on :func:`growing_directions` (ours).

    Args:
        vectors: ``[n, d]``; those that are 0 are left out, and of the others 1024 are drawn.
        generator: where the randomness comes from, on the CPU.
    """
    vectors = vectors[(vectors != 0).any(1)]
    drawn = torch.randperm(len(vectors), generator=generator)[:COMPARED].to(vectors.device)
    growing, held = _growing(vectors[drawn])
    return bool(len(drawn)) and int(held[growing].sum()) >= ENOUGH * len(drawn)


def _growing(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a vector stands for a growing direction, and how many vectors its direction holds, both ``[n]``."""
    if not len(vectors):
        return torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    vectors = vectors.cpu().double()  # some devices know no such precision
    lengths = vectors.norm(dim=1)
    units = vectors / lengths[:, None]
    parallel = (units @ units.T).abs() > 1 - SAME_DIRECTION**2 / 2
    first = parallel.int().argmax(1)  # the first vector of each direction stands for it
    longest = torch.zeros_like(lengths).scatter_reduce(0, first, lengths, "amax")
    shortest = torch.full_like(lengths, torch.inf).scatter_reduce(0, first, lengths, "amin")
    held = first.bincount(minlength=len(first))
    return (held >= FEWEST) & (longest > (1 + GROWTH) * shortest), held
