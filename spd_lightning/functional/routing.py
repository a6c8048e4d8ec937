"""Which sites run their components, per example, while the others run the target's own weights."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from spd_lightning.functional.sampling import RowShare, own_rows


def uniform_subset(
    sites: Sequence[str], leading: torch.Size, generator: Generator, share: RowShare | None = None
) -> dict[str, Tensor]:
    """Route a random subset of sites through components (later SPD library, ``uniform_k_subset``).

    For every example (and position) independently, ``k`` is uniform on ``1..len(sites)`` and the ``k``
    sites are a uniformly random subset.

    Args:
        sites: site names.
        leading: the leading dimensions of the activations, e.g. ``[batch]`` or ``[batch, position]``.
        generator: where the randomness comes from.
        share: which rows of a batch the draw is for, see :func:`own_rows`.

    Returns:
        A boolean tensor of shape ``leading`` per site, true where components run.
    """
    count = len(sites)
    order = own_rows(_uniform, (count, *leading), generator, share, dim=1).argsort(dim=0).argsort(dim=0)
    k = own_rows(
        lambda size, g: torch.randint(1, count + 1, size, generator=g, device=g.device), leading, generator, share
    )
    return dict(zip(sites, order < k, strict=True))


def independent_subset(
    sites: Sequence[str],
    leading: torch.Size,
    probability: float,
    generator: Generator,
    share: RowShare | None = None,
) -> dict[str, Tensor]:
    """Route each site through its components with a fixed probability, independently per example.

    Args:
        sites: site names.
        leading: the leading dimensions of the activations.
        probability: chance that a site runs its components.
        generator: where the randomness comes from.
        share: which rows of a batch the draw is for, see :func:`own_rows`.

    Returns:
        A boolean tensor of shape ``leading`` per site.
    """
    draw = own_rows(_uniform, (len(sites), *leading), generator, share, dim=1)
    return dict(zip(sites, draw < probability, strict=True))


def _uniform(size: Sequence[int], generator: Generator) -> Tensor:
    return torch.rand(size, generator=generator, device=generator.device)
