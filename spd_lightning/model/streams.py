"""Targets whose residual stream is only ever read linearly."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from spd_lightning.model.factored import Factored
from spd_lightning.model.sites import LinearSite, Site

PAIR = ("forward", "through")


@runtime_checkable
class LinearStream(Protocol):
    """A target with a residual stream that starts as ``x @ embedding`` and that layers read and write linearly.

    Attributes:
        embedding: ``[d_in, d_stream]``.
        stream_readers: module paths of the bias-free linear layers that read the stream.
        stream_writers: module paths of the bias-free linear layers whose output is added to it.
    """

    embedding: Tensor
    stream_readers: tuple[str, ...]
    stream_writers: tuple[str, ...]

    def through(self, stream: Any) -> Tensor:
        """The target from its embedded input on, using ``+`` and ``@`` on the stream alone."""
        ...


def folds(target: nn.Module, sites: Mapping[str, Site]) -> frozenset[str]:
    """Sites that write to a stream which need not be written out; none where the target offers no such stream.

    Every reader and writer must be a site: an undecomposed layer would be handed a stream it cannot take.

    Args:
        target: the network.
        sites: its sites, by name.

    Returns:
        Names of the writing sites.
    """
    if not hasattr(target, "stream_writers"):  # quicker than asking the protocol, and asked at every step
        return frozenset()
    if not isinstance(target, LinearStream) or _forward_is_newer(target) or _is_hooked(target):
        return frozenset()
    if not {*target.stream_readers, *target.stream_writers} <= set(sites):
        return frozenset()
    layers = [sites[name] for name in (*target.stream_readers, *target.stream_writers)]
    if not all(isinstance(site, LinearSite) and site.kind_of_components == site.kind_of_output for site in layers):
        return frozenset()
    if any(sites[name].vector() is not None for name in target.stream_writers):
        return frozenset()  # a bias is no product of coefficients and directions
    return frozenset(target.stream_writers)


def _forward_is_newer(target: object) -> bool:
    """Whether a subclass or the instance changed ``forward`` without changing ``through``."""
    defined = [next(index for index, base in enumerate(type(target).__mro__) if name in vars(base)) for name in PAIR]
    return "forward" in vars(target) or defined[0] < defined[1]


def _is_hooked(target: nn.Module) -> bool:
    """Whether somebody looks at what modules take or put out, and expects tensors."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in target.modules())


class FactoredInputs(Mapping[str, Tensor]):
    """Site inputs ``[..., d_in]`` by name; one that is kept factored is written out when it is asked for."""

    def __init__(self, inputs: Mapping[str, Tensor | Factored]) -> None:
        self._inputs = inputs

    def __getitem__(self, name: str) -> Tensor:
        found = self._inputs[name]
        return found.dense() if isinstance(found, Factored) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
