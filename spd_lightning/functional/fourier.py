"""Fourier analysis of the whole numbers modulo a modulus, and how well directions lie in its planes."""

import math

import torch
from torch import Generator, Tensor

EPS = 1e-12
"""Added to squared lengths that are divided by, so that nothing has no share of anything."""


def fourier_basis(modulus: int) -> Tensor:
    """Orthonormal real Fourier basis of the functions on the numbers modulo an odd modulus.

    Args:
        modulus: number of numbers, odd.

    Returns:
        ``[modulus, modulus]`` in double precision, a function in every row: the constant, then cosine and sine of
        frequency 1, of frequency 2, and so on up to ``(modulus - 1) / 2``.
    """
    numbers = torch.arange(modulus, dtype=torch.float64)
    frequencies = torch.arange(1, modulus // 2 + 1, dtype=torch.float64)
    angles = 2 * math.pi * frequencies[:, None] * numbers / modulus
    waves = torch.stack([angles.cos(), angles.sin()], dim=1).flatten(0, 1) * math.sqrt(2 / modulus)
    return torch.cat([torch.full((1, modulus), 1 / math.sqrt(modulus), dtype=torch.float64), waves])


def fourier_planes(modulus: int, copies: int = 1) -> Tensor:
    """The space of every frequency above 0, for functions of one number or of several that are added.

    Cosine and sine span a plane. Functions ``f(a) + g(b)`` of two numbers have one for each of them, and both together,
    four dimensions, are what a neuron of one frequency can read.

    Args:
        modulus: number of numbers, odd.
        copies: how many numbers there are side by side.

    Returns:
        ``[(modulus - 1) / 2, copies * modulus, 2 * copies]``, orthonormal columns, in double precision.
    """
    waves = fourier_basis(modulus)[1:].reshape(-1, 2, modulus).transpose(1, 2).contiguous()
    return torch.stack([torch.kron(torch.eye(copies, dtype=plane.dtype), plane) for plane in waves])


def frequency_power(functions: Tensor) -> Tensor:
    """Squared length of functions in the space of every frequency; the sum is their whole squared length.

    Args:
        functions: ``[..., modulus]``, values on all numbers, the modulus odd.

    Returns:
        ``[..., (modulus + 1) / 2]``, frequency 0, the constant, first.
    """
    power = torch.fft.rfft(functions, norm="ortho").abs().square()
    return torch.cat([power[..., :1], 2 * power[..., 1:]], dim=-1)


def plane_shares(directions: Tensor, planes: Tensor) -> Tensor:
    """Share of the squared length of directions that lies in each of several subspaces.

    Args:
        directions: ``[n, m, d]``: ``n`` bundles of ``m`` directions, whose squared lengths are added. A component of
            rank one is a bundle of one.
        planes: ``[planes, d, k]``, orthonormal columns.

    Returns:
        ``[n, planes]`` in [0, 1]; 0 for a bundle of no length.
    """
    inside = torch.einsum("nmd,pdk->npmk", directions, planes).square().sum((-2, -1))
    return inside / (directions.square().sum((-2, -1)) + EPS)[:, None]


def plane_alignment(directions: Tensor, planes: Tensor) -> Tensor:
    """Share of the squared length of directions that lies in the best of several subspaces.

    Args:
        directions: ``[n, m, d]``, see :func:`plane_shares`.
        planes: ``[planes, d, k]``, orthonormal columns.

    Returns:
        ``[n]``; 1 where a direction lies in one of them.
    """
    return plane_shares(directions, planes).amax(1)


def chance_plane_alignment(seen: Tensor, planes: Tensor, terms: int, draws: int, generator: Generator) -> float:
    """Alignment that directions drawn at random would have, by Monte Carlo.

    Needed because the best of many planes is far from 0, and depends on what directions are seen through: an embedding
    that holds few frequencies leaves little else to be read.

    Args:
        seen: ``[d, d_in]``, takes a direction to where the planes are; the identity where it is there already.
        planes: ``[planes, d, k]``, orthonormal columns.
        terms: directions in a bundle.
        draws: number of random bundles.
        generator: where the randomness comes from; entries are normal.

    Returns:
        The mean over draws.
    """
    drawn = torch.randn(draws, terms, seen.shape[1], generator=generator, dtype=torch.float64)
    return plane_alignment(drawn @ seen.double().T, planes).mean().item()


def answer_matrices(left: Tensor, right: Tensor, output: Tensor) -> Tensor:
    """What each output of a bilinear layer is a quadratic form of its input with.

    Output ``r`` of ``output @ ((left @ x) * (right @ x))`` is ``x' M[r] x`` (Pearce et al. 2024, arXiv 2410.08417).

    Args:
        left: ``[width, d]``.
        right: ``[width, d]``.
        output: ``[outputs, width]``.

    Returns:
        ``[outputs, d, d]``, symmetric.
    """
    one_sided = torch.einsum("rh,hi,hj->rij", output, left, right)
    return (one_sided + one_sided.transpose(1, 2)) / 2


def eigenvectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric matrices, those of the largest magnitude first.

    Args:
        matrices: ``[..., d, d]``.

    Returns:
        Values ``[..., d]``, and unit vectors ``[..., d, d]``, one in every row.
    """
    values, vectors = torch.linalg.eigh(matrices)
    order = values.abs().argsort(dim=-1, descending=True, stable=True)
    rows = vectors.transpose(-1, -2).take_along_dim(order[..., None], dim=-2)
    return values.take_along_dim(order, dim=-1), rows


def eigenspace_alignment(matrices: Tensor, planes: Tensor) -> float:
    """How far the eigenvectors of symmetric matrices lie in single subspaces.

    Args:
        matrices: ``[n, d, d]``.
        planes: ``[planes, d, k]``, orthonormal columns.

    Returns:
        The mean of :func:`plane_alignment` over all eigenvectors of all matrices, each weighted by the square of its
        eigenvalue, so that what is nearly never used counts for nearly nothing.
    """
    values, vectors = eigenvectors(matrices.double())
    alignment = plane_alignment(vectors.reshape(-1, 1, vectors.shape[-1]), planes.double())
    weights = values.flatten().square()
    return ((alignment * weights).sum() / (weights.sum() + EPS)).item()


def plane_invariance(matrices: Tensor, planes: Tensor) -> float:
    """How far symmetric matrices keep every one of several subspaces to itself.

    Eigenvectors of nearly equal eigenvalues mix, even from different subspaces; this does not depend on which of them
    are picked.

    Args:
        matrices: ``[n, d, d]``.
        planes: ``[planes, d, k]``, orthonormal columns, of subspaces that are orthogonal to each other.

    Returns:
        The share of all squared entries that lies within the subspaces' own blocks: 1 if each is a sum of eigenspaces.
    """
    blocks = torch.einsum("pik,nij,pjl->npkl", planes.double(), matrices.double(), planes.double())
    return (blocks.square().sum() / (matrices.double().square().sum() + EPS)).item()
