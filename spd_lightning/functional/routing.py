"""Which sites run their components, per example, while the others run the target's own weights."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def uniform_subset(sites: Sequence[str], leading: torch.Size, generator: Generator) -> dict[str, Tensor]:
    """Route a random subset of sites through components (later SPD library, ``uniform_k_subset``).

    For every example (and position) independently, ``k`` is uniform on ``1..len(sites)`` and the ``k``
    sites are a uniformly random subset.

    Args:
        sites: site names.
        leading: the leading dimensions of the activations, e.g. ``[batch]`` or ``[batch, position]``.
        generator: where the randomness comes from.

    Returns:
        A boolean tensor of shape ``leading`` per site, true where components run.
    """
    count, device = len(sites), generator.device
    order = torch.rand((count, *leading), generator=generator, device=device).argsort(dim=0).argsort(dim=0)
    k = torch.randint(1, count + 1, tuple(leading), generator=generator, device=device)
    return dict(zip(sites, order < k, strict=True))


def independent_subset(
    sites: Sequence[str], leading: torch.Size, probability: float, generator: Generator
) -> dict[str, Tensor]:
    """Route each site through its components with a fixed probability, independently per example.

    Args:
        sites: site names.
        leading: the leading dimensions of the activations.
        probability: chance that a site runs its components.
        generator: where the randomness comes from.

    Returns:
        A boolean tensor of shape ``leading`` per site.
    """
    draw = torch.rand((len(sites), *leading), generator=generator, device=generator.device)
    return dict(zip(sites, draw < probability, strict=True))
