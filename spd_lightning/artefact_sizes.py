"""Whether an artefact's ``config.json`` declares more than its file of tensors can hold, asked before it is built."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.model import GateMLP, SharedMLP
from spd_lightning.model.sites import find_sites
from spd_lightning.targets import ResidualMLP, ToyModelOfSuperposition

SLACK, FACTOR = 10**6, 4
"""A config may declare this many numbers, and so many times what the file holds: what is merely wrong gets built, and
the message then names the parameter."""


def check_target_size(cls: type[nn.Module], arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise a :class:`UsageError` if a target of these arguments would dwarf the file.

    Args:
        cls: a target of ours.
        arguments: what its constructor is given.
        state: the tensors of the file.
    """
    for name, value in arguments.items():
        if name.startswith(("n_", "d_")):
            check_whole(f"config.json: {name}", value, least=0)
    _check("target", TARGET_SIZES[cls](arguments), state)


def check_component_sizes(
    target: nn.Module,
    sites: Mapping[str, int],
    described: Mapping[str, Any],
    cls: type | None,
    state: dict[str, Tensor],
) -> None:
    """The same for components and their causal-importance functions.

    Args:
        target: the network, built.
        sites: components ``C`` by site.
        described: ``class_path`` and ``init_args`` of the causal-importance functions.
        cls: their class, if it is one of ours.
        state: the tensors of the file.
    """
    found = find_sites(target, sites).values()
    _check("sites", sum(count * (layer.in_features + layer.out_features) for layer, count in found), state)
    if cls is None:
        return
    hidden = described["init_args"].get("hidden", ())
    for width in hidden:
        check_whole("config.json: hidden", width, least=1)
    _check("ci_fn", sum(_GATES[cls](layer.in_features, count, hidden) for layer, count in found), state)


def check_full_sizes(
    target: nn.Module, sites: Mapping[str, int], rank: int | None, state: Mapping[str, Tensor]
) -> None:
    """The same for components of any rank.

    Args:
        target: the network, built.
        sites: components ``C`` by site.
        rank: largest rank of a component, ``None`` for the matrix's own.
        state: the tensors of the file.
    """
    if rank is not None:
        check_whole("config.json: rank", rank, least=1)
    widths = [(count, layer.in_features, layer.out_features) for layer, count in find_sites(target, sites).values()]
    declared = sum(count * (read + write) * min(rank or read, read, write) for count, read, write in widths)
    _check("sites", declared, state)


def _check(what: str, declared: int, state: Mapping[str, Tensor]) -> None:
    held = sum(tensor.numel() for tensor in state.values())
    if declared > SLACK + FACTOR * held:
        raise UsageError(f"config.json: {what} declares {declared:.1e} numbers, but the file holds {held}")


def _toy_model(arguments: Mapping[str, Any]) -> int:
    features, hidden = arguments["n_features"], arguments["n_hidden"]
    # a module costs a thousand times what a number does
    return int(2 * features * hidden + arguments.get("n_identity_layers", 0) * (hidden**2 + 1000))


def _residual_mlp(arguments: Mapping[str, Any]) -> int:
    features, embed = arguments["n_features"], arguments.get("d_embed", 1000)
    return int(features * embed + arguments.get("n_layers", 1) * (2 * arguments.get("d_mlp", 50) * embed + 1000))


def _layers(sizes: Sequence[int]) -> int:
    return sum(read * write + write for read, write in pairwise(sizes))


TARGET_SIZES: dict[type[nn.Module], Callable[[Mapping[str, Any]], int]] = {
    ToyModelOfSuperposition: _toy_model,
    ResidualMLP: _residual_mlp,
}
_GATES: dict[type, Callable[[int, int, Sequence[int]], int]] = {
    GateMLP: lambda d_in, count, hidden: count * _layers([1, *hidden, 1]),
    SharedMLP: lambda d_in, count, hidden: _layers([d_in, *hidden, count]),
}
