"""The target without some components: what a user asks for by number."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.model.components import Components
from spd_lightning.model.grouping import Grouping
from spd_lightning.model.masks import SiteMask

Ablated = Mapping[str, int | Iterable[int]]
"""Numbers of components, or one number, by site or site call."""


def masks_without(
    ablated: Ablated, components: Mapping[str, Components], mechanisms: Grouping, site_of_call: Mapping[str, str]
) -> dict[str, SiteMask]:
    """Masks that take components away from the target's own weights: all others and the delta component stay.

    Args:
        ablated: what to take away; what belongs to it at other sites goes with it.
        components: of every site.
        mechanisms: which components belong together.
        site_of_call: the site of every name in ``ablated``.

    Returns:
        A mask for every site that loses something; the others run the target's own weight.

    Raises:
        UsageError: for a site that does not exist, or a component that it does not have.
    """
    off: dict[str, list[int]] = {}
    for name, given in ablated.items():
        site = site_of_call[name]
        if site not in components:
            raise UsageError(f"ablated: there is no site {site!r}; the sites are {', '.join(components)}")
        for component in _numbers(name, given, components[site].n_components):
            for other, members in mechanisms.members(site, component).items():
                off.setdefault(name if other == site else other, []).extend(members)
    return {name: _mask(components[site_of_call.get(name, name)].V, numbers) for name, numbers in off.items()}


def _numbers(name: str, given: int | Iterable[int], count: int) -> list[int]:
    numbers = [given] if isinstance(given, int) else list(given)
    for number in numbers:
        check_whole(f"ablated: {name!r}: each", number, least=0, most=count - 1)
    return [int(number) for number in numbers]


def _mask(like: Tensor, off: list[int]) -> SiteMask:
    kept = torch.ones(like.shape[1], dtype=like.dtype, device=like.device)
    kept[off] = 0
    return SiteMask(kept, kept.new_ones(()))
