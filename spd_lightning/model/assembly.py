"""A module's output put together from those of its sites."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spd_lightning.model.sites import Site
from spd_lightning.model.wrapping import call_name


def of_call(by_call: Mapping[str, Any], site: str, index: int) -> Any:
    """The entry of one call of a site, or the one for all its calls; ``None`` without either."""
    found = by_call.get(call_name(site, index, 2))
    return by_call.get(site) if found is None else found


def assembled(sites: Mapping[str, Site], parts: Mapping[str, Tensor], original: Callable[[], Any]) -> Tensor:
    """A module's output from those of its sites.

    Args:
        sites: the module's, by name.
        parts: what some of them put out, ``[..., d_out]``.
        original: what the module itself puts out, for rows that belong to none of these.

    Returns:
        In the layout of the module's output.
    """
    first = sites[next(iter(parts))]
    if first.rows is None:
        return first.place(parts[next(iter(parts))])
    covered = sum(sites[name].d_out for name in parts) == first.matrix().shape[0]
    own = None if covered else first.taken(original())
    pieces: list[tuple[int, Tensor]] = []
    for name, output in parts.items():
        ranges = sites[name].rows or ()
        pieces += list(zip((r.start for r in ranges), torch.split(output, [len(r) for r in ranges], -1), strict=True))
    return first.place(_joined(sorted(pieces, key=lambda piece: piece[0]), own))


def _joined(pieces: Sequence[tuple[int, Tensor]], own: Tensor | None) -> Tensor:
    """Pieces of rows in order, each with its first row; gaps are filled from ``own``."""
    joined, at = [], 0
    for start, piece in pieces:
        if own is not None and at < start:
            joined.append(own[..., at:start].to(piece.dtype))
        joined.append(piece)
        at = start + piece.shape[-1]
    if own is not None and at < own.shape[-1]:
        joined.append(own[..., at:].to(joined[-1].dtype))
    return torch.cat(joined, -1)
