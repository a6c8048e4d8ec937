"""Whether an artefact's ``config.json`` declares more than its file of tensors can hold, asked before it is built."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.model.decomposed import ImportanceFactory
from spd_lightning.model.importance import SiteShape
from spd_lightning.model.sites import Site

SLACK, FACTOR = 10**6, 4
"""A config may declare this many numbers, and so many times what the file holds: what is merely wrong gets built, and
the message then names the parameter."""


def check_target_size(cls: type[nn.Module], arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise a :class:`UsageError` if a target of these arguments would dwarf the file.

    Args:
        cls: its class. One with a function ``declared_size`` of its arguments is asked before it is built.
        arguments: what its constructor is given.
        state: the tensors of the file.
    """
    declared = getattr(cls, "declared_size", None)
    if declared is None:
        return
    for name, value in arguments.items():
        if name.startswith(("n_", "d_")):
            check_whole(f"config.json: {name}", value, least=0)
    _check("target", declared(**arguments), state)


def check_component_sizes(
    found: Mapping[str, tuple[Site, int]], state: Mapping[str, Tensor], rank: int | None = 1
) -> None:
    """The same for components.

    Args:
        found: sites and ``C`` by name.
        state: the tensors of the file.
        rank: largest rank of a component, ``None`` for the matrix's own.
    """
    if rank is not None:
        check_whole("config.json: rank", rank, least=1)
    widths = [(count, site.d_in, site.d_out) for site, count in found.values()]
    declared = sum(count * (read + write) * min(rank or read, read, write) for count, read, write in widths)
    _check("sites", declared, state)


def check_importance_size(
    importance: ImportanceFactory, shapes: Mapping[str, SiteShape], state: Mapping[str, Tensor]
) -> None:
    """The same for an importance function, which is built without memory to be counted."""
    with torch.device("meta"):
        function = importance(shapes)
    _check("importance", sum(parameter.numel() for parameter in function.parameters()), state)


def _check(what: str, declared: int, state: Mapping[str, Tensor]) -> None:
    held = sum(tensor.numel() for tensor in state.values())
    if declared > SLACK + FACTOR * held:
        raise UsageError(f"config.json: {what} declares {declared:.1e} numbers, but the file holds {held}")
