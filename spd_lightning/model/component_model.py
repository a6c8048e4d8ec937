"""A frozen target some of whose linear layers can run on components, whatever decides which of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.model.ci_fns import CIFunction
from spd_lightning.model.components import StorageTiedComponents
from spd_lightning.model.masks import Mask, SiteMask
from spd_lightning.model.site_components import SiteComponents
from spd_lightning.model.site_dict import SiteDict

Seen = TypeVar("Seen")
Parts = TypeVar("Parts", bound=SiteComponents)


class CleanPass(NamedTuple):
    """The target's own output ``[..., d]`` and the input ``[..., d_in]`` that every site received."""

    output: Tensor
    site_inputs: Mapping[str, Tensor]


class CausalImportance(NamedTuple):
    """Logits of one site and their two sigmoids, ``[..., C]`` each: ``lower`` for masks, ``upper`` for the penalty."""

    logits: Tensor
    lower: Tensor
    upper: Tensor


class ComponentModel(nn.Module, ABC, Generic[Parts]):
    """Base of decomposed networks: a frozen target whose chosen linear layers can run on masked components.

    Masks and routing travel as arguments; nothing is left behind in the target between calls. Inputs have any
    leading dimensions, ``[..., d]``.

    Args:
        target: the trained network. It is frozen and put into eval mode; its forward takes one input and
            returns one tensor.

    Attributes:
        components: of every site, by name.
    """

    components: SiteDict[Parts]
    ci_fns: SiteDict[CIFunction]
    """Gates that predict importances, by site; empty where nothing is predicted."""
    use_delta = False
    """Whether what the components leave unexplained takes part in masking as a component of its own."""
    own_importance: ClassVar[str] = "causal importance"
    """What :meth:`importance_of` says, in words."""
    batch_importance: ClassVar[str] = "lower-leaky causal importance"
    """What importances on a batch of data are, in words."""
    spans_sites: ClassVar[bool] = False
    """Whether component ``c`` is one mechanism over all sites, so that one mask serves all of them."""

    def __init__(self, target: nn.Module) -> None:
        super().__init__()
        self.target = target.requires_grad_(False).eval()

    @abstractmethod
    def importance_of(self, x: Any) -> dict[str, "CausalImportance"]:
        """How important every component is on each example by itself, whatever else is in the batch.

        Args:
            x: the target's input.

        Returns:
            Importances ``[..., C]`` per site.
        """

    @abstractmethod
    def reset(self) -> None:
        """Draw what is trained anew from the seed, for the target's present weights."""

    @property
    def site_names(self) -> list[str]:
        """Names of the sites, in the order of the target's modules."""
        return list(self.components)

    @property
    def shares_storage(self) -> bool:
        """Whether parameters of two sites are views of the same numbers (``tied_updates: twice``)."""
        return any(isinstance(parts, StorageTiedComponents) for parts in self.components.values())

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of everything but the target, which stays in eval mode."""
        super().train(mode)
        self.target.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for parts in self.components.values():
            if isinstance(parts, StorageTiedComponents):
                parts.share()
        return self

    def clean(self, x: Any) -> CleanPass:
        """Run the target as it is and record what reaches every site, without gradient.

        Args:
            x: the target's input.

        Returns:
            Output and site inputs.

        Raises:
            UsageError: if a site is reached twice or not at all, or the output is no tensor.
        """
        seen: dict[str, Tensor] = {}
        recorders = {name: partial(self._record, seen, name) for name in self.site_names}
        with torch.no_grad(), self.patched(recorders):
            output = self.target(x)
        return CleanPass(self.check_output(output), self.check_reached(seen))

    @staticmethod
    def check_output(output: Any) -> Tensor:
        """The target's output, or a :class:`UsageError` if it is no tensor."""
        if not isinstance(output, Tensor):
            raise UsageError(f"target: forward must return one tensor, got {type(output).__name__}; wrap the network")
        return output

    @staticmethod
    def check_first(name: str, seen: Container[str]) -> None:
        """Refuse a site that a pass reaches again, with a :class:`UsageError`."""
        if name in seen:
            raise UsageError(f"sites: the target calls {name!r} more than once in a forward; leave it out")

    def check_reached(self, seen: Mapping[str, Seen]) -> dict[str, Seen]:
        """What a pass recorded per site, in the order of the sites.

        Raises:
            UsageError: if the pass did not reach a site.
        """
        missing = [name for name in self.site_names if name not in seen]
        if missing:
            raise UsageError(f"sites: the target's forward never calls {missing[0]!r}; leave it out")
        return {name: seen[name] for name in self.site_names}

    def masked(self, x: Any, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None) -> Tensor:
        """Run the target with masked components in place of some layers.

        Args:
            x: the target's input.
            masks: masks per site; sites without an entry run the target's own weight.
            routing: per site a boolean tensor ``[...]``, true where the components run and false where the
                target's own weight does; ``None`` or a missing entry means everywhere.

        Returns:
            The output, ``[..., d]``.
        """
        routing = routing or {}
        replaced = {name: partial(self._run_site, name, mask, routing.get(name)) for name, mask in masks.items()}
        with self.patched(replaced):
            output: Tensor = self.target(x)
        return output

    def forward(self, x: Any) -> Tensor:
        """Output with every component fully on and no delta: the unmasked decomposition, ``[..., d]``."""
        ones = {name: SiteMask(parts.V.new_ones(parts.n_components)) for name, parts in self.components.items()}
        return self.masked(x, ones)

    @staticmethod
    def tied_components(
        found: Mapping[str, tuple[nn.Linear, int]],
        ties: Mapping[str, str],
        own: Callable[[nn.Linear, int], Parts],
        tied: Callable[[nn.Linear, Any], Parts],
    ) -> dict[str, Parts]:
        """Components of every site; those of a tied site belong to another one.

        Args:
            found: layers and ``C`` by site.
            ties: sites whose weight is the transpose of another site's.
            own: makes components of a layer.
            tied: makes components of a layer from those of the other site.

        Returns:
            Components by site, in the order of ``found``.

        Raises:
            UsageError: if a tie does not fit.
        """
        parts = {name: own(layer, count) for name, (layer, count) in found.items() if name not in ties}
        for name, source in ties.items():
            if name not in found or source not in parts:
                raise UsageError(f"ties: {name!r} and {source!r} must be two different sites, got {list(found)}")
            layer, owner = found[name][0], parts[source]
            if layer.weight.shape != owner.site.weight.T.shape or found[name][1] != owner.n_components:
                raise UsageError(f"ties: {name!r} must be the transpose of {source!r} and have the same C")
            parts[name] = tied(layer, owner)
        return {name: parts[name] for name in found}

    def _record(self, seen: dict[str, Tensor], name: str, site_input: Tensor) -> Tensor:
        self.check_first(name, seen)
        seen[name] = site_input
        layer = self.components[name].site
        return F.linear(site_input, layer.weight, layer.bias)

    def _run_site(self, name: str, mask: Mask, routed: Tensor | None, site_input: Tensor) -> Tensor:
        parts = self.components[name]
        output: Tensor = parts(site_input, mask.components, mask.delta)
        if routed is None:
            return output
        own = F.linear(site_input, parts.site.weight, parts.site.bias)
        return torch.where(routed[..., None], output, own)

    @contextmanager
    def patched(self, replacements: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
        """Replace the forwards of some sites for the length of a ``with`` block."""
        layers = {name: self.components[name].site for name in replacements}
        before = {name: vars(layer).get("forward") for name, layer in layers.items()}
        try:
            for name, layer in layers.items():
                layer.forward = replacements[name]  # type: ignore[method-assign, assignment]
            yield
        finally:
            for name, layer in layers.items():
                del layer.forward
                if before[name] is not None:
                    layer.forward = before[name]  # type: ignore[method-assign, assignment]
