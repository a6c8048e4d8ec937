"""Where components start, computed from what reaches a site."""

from typing import Literal

import torch
from torch import Generator, Tensor

Basis = Literal["neurons", "singular", "directions"]
CANDIDATES = 20
NEGLIGIBLE = 1e-3
CONDITION = 1e-3


def spread_directions(examples: Tensor, count: int, generator: Generator) -> Tensor:
    """Directions of examples, chosen far apart (greedy k-means++ seeding on the squared sine of the angle; ours).

    Twenty candidates are drawn for each, with a probability proportional to their squared sine to the nearest one
    chosen before (evenly for the first); the one that leaves the smallest sum of these is taken: the middle of a
    crowd that none stands for yet. Examples shorter than a thousandth of the longest are left out; if there are
    fewer examples than directions, some come again.

    Args:
        examples: ``[..., d]``.
        count: number of directions.
        generator: where the randomness comes from, on the CPU.

    Returns:
        Unit vectors ``[count, d]``.

    Raises:
        ValueError: if every example is zero.
    """
    rows = examples.reshape(-1, examples.shape[-1])
    lengths = rows.norm(dim=1)
    if not lengths.amax() > 0:
        raise ValueError("every example is zero: there is no direction to choose")
    kept = lengths > NEGLIGIBLE * lengths.amax()
    rows = rows[kept] / lengths[kept, None]
    picks: list[int] = []
    apart = torch.ones(len(rows))
    for _ in range(count):
        candidates = torch.multinomial(apart, CANDIDATES, replacement=True, generator=generator)
        sines = 1 - (rows @ rows[candidates].T).square()
        left = torch.minimum(apart[:, None], sines.cpu().float().clamp(min=torch.finfo(torch.float32).eps))
        best = int(left.sum(0).argmin())
        apart = left[:, best]
        picks.append(int(candidates[best]))
    directions: Tensor = rows[picks]
    return directions


def examples_start(weight: Tensor, examples: Tensor, n_components: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Components that read examples of a site's input and write what the site writes of them (ours).

    ``V[:, c]`` is an example's direction, ``U[c]`` its image ``W v``, both scaled so that the sum comes closest to
    ``W``; the smallest change of ``V`` then makes the sum equal to it. That needs more components than the weight has
    rows or columns. With fewer, ``V`` is a random orthonormal set and ``U`` again its image.

    Args:
        weight: ``W``, ``[d_out, d_in]``.
        examples: inputs of the site, ``[..., d_in]``.
        n_components: ``C``.
        generator: where the randomness comes from, on the CPU.

    Returns:
        ``V [d_in, C]`` and ``U [C, d_out]``, read and write vector of a component equally long.

    Raises:
        ValueError: if every example is zero.
    """
    if n_components > min(weight.shape):
        directions = spread_directions(examples, n_components, generator)
        V, U = directions.T, directions @ weight.T
        total = V @ U
        scale = ((total * weight.T).sum() / total.square().sum().clamp(min=torch.finfo(total.dtype).tiny)).sqrt()
        V, U = V * scale, U * scale
        V = V + (weight.T - V @ U) @ torch.linalg.pinv(U, rtol=CONDITION)
    else:
        draw = torch.randn(weight.shape[1], n_components, generator=generator).to(weight)
        V = torch.linalg.qr(draw)[0]
        U = V.T @ weight.T
    return _balanced(V, U)


def _balanced(V: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    read, write = V.norm(dim=0), U.norm(dim=1)
    smallest = torch.finfo(V.dtype).eps
    ratio = (write.clamp(min=smallest) / read.clamp(min=smallest)).sqrt()
    return V * ratio, U / ratio[:, None]


def basis_start(kind: Basis, weight: Tensor, n_components: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Components that nothing has to learn: what learned ones are held against.

    Args:
        kind: ``"neurons"``, one component per row of ``W`` or one per column, whichever their number is, exact;
            ``"singular"``, the largest singular vectors, exact where there are as many components as the rank;
            ``"directions"``, random read vectors with the write vectors that come closest to ``W``, exact from ``d_in``
            components on.
        weight: ``W``, ``[d_out, d_in]``.
        n_components: ``C``.
        generator: where the randomness comes from, on the CPU.

    Returns:
        ``V [d_in, C]`` and ``U [C, d_out]``.

    Raises:
        ValueError: if there is not one component per row or per column for ``"neurons"``.
    """
    rows, columns = weight.shape
    if kind == "neurons":
        if n_components not in (rows, columns):
            raise ValueError(f"neurons need C = {rows} (one per output) or C = {columns} (one per input)")
        unit = torch.eye(n_components, dtype=weight.dtype, device=weight.device)
        return (weight.T.clone(), unit) if n_components == rows else (unit, weight.T.clone())
    if kind == "singular":
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        V, U = weight.new_zeros(columns, n_components), weight.new_zeros(n_components, rows)
        kept, root = min(n_components, len(values)), values.sqrt()
        V[:, :kept], U[:kept] = (right[:kept].T * root[:kept]), (left[:, :kept] * root[:kept]).T
        return V, U
    V = torch.randn(columns, n_components, generator=generator).to(weight)
    V = V / V.norm(dim=0)
    return V, torch.linalg.pinv(V) @ weight.T
