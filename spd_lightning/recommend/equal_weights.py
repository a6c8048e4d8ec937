"""Sites whose weights are the same numbers."""

from collections.abc import Mapping

import torch

from spd_lightning.model import Site
from spd_lightning.model.ties import shared_parameters


def equal_weights(sites: Mapping[str, Site]) -> tuple[dict[str, str], dict[str, str]]:
    """Sites whose weight is that of a site before them.

    Args:
        sites: by name.

    Returns:
        By name the first site of the same weight: of sites that are one parameter, which are tied without being told,
        and of others, whose numbers are equal as they are or transposed.
    """
    shared = shared_parameters({name: (site, 1) for name, site in sites.items()})
    equal: dict[str, str] = {}
    owners: dict[str, Site] = {}
    for name, site in sites.items():
        if name in shared:
            continue
        source = next((owner for owner, other in owners.items() if _equal(site, other)), None)
        if source is None:
            owners[name] = site
        else:
            equal[name] = source
    return shared, equal


def _equal(one: Site, other: Site) -> bool:
    first, second = one.weight(), other.weight()
    if first.dtype != second.dtype or not first.any():
        return False
    return torch.equal(first, second) or torch.equal(first, second.T)
