"""A frozen target some of whose weight matrices can run on components, whatever decides which of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.model.ablation import Ablated, masks_without
from spd_lightning.model.assembly import assembled, of_call
from spd_lightning.model.call import AutomaticCall, TargetCall
from spd_lightning.model.components import Components, MaskMisfitError
from spd_lightning.model.grouping import Grouping
from spd_lightning.model.masks import Mask, SiteMask, as_mask
from spd_lightning.model.passes import CausalImportance, CleanPass, MaskedPass
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.sites import Site
from spd_lightning.model.summary import summary
from spd_lightning.model.ties import TiedComponents, TwinComponents, parameter_of
from spd_lightning.model.wrapping import Keeper, Original, Wrapping, calls_in_order, place_name, site_of


class ComponentModel(nn.Module, ABC):
    """Base of decomposed networks: a frozen target whose sites can run on masked components.

    Masks and routing travel as arguments; nothing is left behind in the target between calls. Inputs have any leading
    dimensions, and sites may differ in theirs.

    Args:
        target: the trained network. It is frozen and put into eval mode.
        found: sites and ``C`` by name.
        call: how a batch becomes the target's arguments; ``None`` for :class:`AutomaticCall`.

    Attributes:
        components: of every site, by name.
        wrapping: what runs the target.
        importance_function: predicts importances; empty where nothing is predicted.
    """

    writer: ClassVar[Callable[..., None]]
    """Writes the artefact; set by the room that knows its format, which builds on this class."""
    components: SiteDict[Components]
    importance_function: nn.Module
    use_delta = False
    """Whether what the components leave unexplained takes part in masking as a component of its own."""
    own_importance: ClassVar[str] = "causal importance"
    """What :meth:`importance_of` says, in words."""
    batch_importance: ClassVar[str] = "lower-leaky causal importance"
    """What importances on a batch of data are, in words."""

    def __init__(
        self, target: nn.Module, found: Mapping[str, tuple[Site, int]], call: TargetCall | None = None
    ) -> None:
        super().__init__()
        self.target = target.requires_grad_(False).eval()
        self.call = AutomaticCall() if call is None else call
        self.wrapping = Wrapping(target, self.call, {name: site for name, (site, _) in found.items()})
        self._ablated: Ablated | None = None

    @abstractmethod
    def importance_of(self, batch: Any) -> dict[str, CausalImportance]:
        """How important every component is on each example by itself, whatever else is in the batch.

        Args:
            batch: as the call takes it.

        Returns:
            Importances ``[..., C]`` per site call.
        """

    @abstractmethod
    def reset(self) -> None:
        """Draw what is trained anew from the seed, for the target's present weights."""

    @cached_property
    def mechanisms(self) -> Grouping:
        """Which components belong together: each by itself, unless the method says otherwise."""
        return Grouping.singletons({name: parts.n_components for name, parts in self.components.items()})

    def use_mechanisms(self, mechanisms: Grouping) -> None:
        """From now on, what is ablated with a component is its group; importances stay as they are.

        Args:
            mechanisms: such as clustering finds, for all sites.

        Raises:
            UsageError: if they are of other components.
        """
        given = {site: len(label) for site, label in mechanisms.labels.items()}
        if given != {name: parts.n_components for name, parts in self.components.items()}:
            raise UsageError(f"mechanisms: are of other components than the model's, got {given}")
        self.__dict__["mechanisms"] = mechanisms  # in the place of the method's own

    @property
    def site_names(self) -> list[str]:
        """Names of the sites, in the order of the target's modules."""
        return list(self.components)

    def save_pretrained(self, folder: str | Path, include_target: bool = True) -> None:
        """Write ``components.safetensors`` and ``config.json``, which ``from_pretrained`` reads.

        Args:
            folder: where; it is made if it does not exist, and files of the two names are replaced.
            include_target: whether the target's weights go into the file.
        """
        type(self).writer(self, folder, include_target)

    def summary(self) -> str:
        """A table of the sites: kind, shape, components, and their parameters beside the target's."""
        return summary(dict(self.components.items()), self.importance_function, self.target)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {type(self.target).__name__}\n{self.summary()}"

    @property
    def twins(self) -> list[TwinComponents]:
        """Components that are kept equal to another site's (``tied_updates: twice``)."""
        return [parts for parts in self.components.values() if isinstance(parts, TwinComponents)]

    def mirror_twins(self) -> None:
        """Let components that are kept equal to others take over what these are now, whichever site comes first."""
        for twin in self.twins:
            twin.mirror()

    @property
    def alike(self) -> list[tuple[str, ...]]:
        """Sites, those together whose components are the same numbers."""
        groups: dict[int, tuple[str, ...]] = {}
        for name, parts in self.components.items():
            groups[id(parts.source)] = (*groups.get(id(parts.source), ()), name)
        return list(groups.values())

    def explained(self) -> list[Components]:
        """Components of every site, those of one matrix once."""
        seen: dict[int, Components] = {}
        for parts in self.components.values():
            owner = parts
            if isinstance(parts, TiedComponents) and parameter_of(parts.site) is parameter_of(parts.source.site):
                owner = parts.source
            seen.setdefault(id(owner), parts)
        return list(seen.values())

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of everything but the target, which stays in eval mode."""
        super().train(mode)
        self.target.eval()
        return self

    @torch.no_grad()
    def clean(self, batch: Any) -> CleanPass:
        """Run the target as it is and record what reaches every site, without gradient.

        Args:
            batch: as the call takes it.

        Returns:
            Output, site inputs, weights.

        Raises:
            UsageError: if a site is not reached, or the output is no tensor.
        """
        return self.wrapping.until_kept(lambda keeper: self._recorded(batch, keeper))

    def _recorded(self, batch: Any, keeper: Keeper) -> CleanPass:
        inputs: dict[tuple[str, int], Tensor] = {}

        def record(path: str, index: int, site_input: Tensor, original: Original) -> Any:
            kept = keeper.keep(place_name(path, index, "in"), site_input)
            inputs.update({(name, index): kept for name in self.wrapping.modules[path]})
            return original(site_input)

        output = self.wrapping.run(batch, record).output
        weights = self.call.arguments(batch).weights
        return CleanPass(output, self.by_call(inputs), weights)

    def by_call(self, recorded: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
        """What a pass recorded, by site call, in the order of the sites.

        Raises:
            UsageError: if the pass did not reach a site.
        """
        reached = {name for name, _ in recorded}
        missing = [name for name in self.site_names if name not in reached]
        if missing:
            raise UsageError(
                f"sites: the target's forward never calls {missing[0]!r}; leave it out, or give the target a form that "
                "calls its modules (see docs/networks.md for fused ones)"
            )
        return {name: recorded[key] for key, name in calls_in_order(recorded, self.site_names).items()}

    def masked(
        self,
        batch: Any,
        masks: Mapping[str, Mask | Tensor | NDArray[Any]],
        routing: Mapping[str, Tensor] | None = None,
        keep: Sequence[str] = (),
    ) -> MaskedPass:
        """Run the target with masked components in place of some matrices.

        Args:
            batch: as the call takes it.
            masks: per site call, or per site for all its calls; a tensor or array ``[..., C]`` is a mask without the
                delta component. Sites without an entry run the target's own weight.
            routing: per site call a boolean tensor ``[...]``, true where the components run and false where the
                target's own weight does; ``None`` or a missing entry means everywhere.
            keep: names of modules of the target whose outputs are wanted.

        Returns:
            The output and what was kept.

        Raises:
            UsageError: for a site that does not exist, or a mask that does not fit its site.
        """
        given = self.checked_masks(masks)
        modules = _modules_of(given)

        def run(path: str, index: int, site_input: Tensor, original: Original) -> Any:
            if place_name(path, index, "in") in self.wrapping.copied:
                site_input = site_input.clone()  # the network overwrites it, and gradients need it
            return self._run_module(path, index, site_input, original, given, routing or {})

        returned = self.wrapping.run(batch, run, keep, modules)
        return MaskedPass(returned.output, returned.kept)

    def checked_masks(self, masks: Mapping[str, Mask | Tensor | NDArray[Any]]) -> dict[str, Mask]:
        """Masks by site call or site, tensors made masks; a :class:`UsageError` for one that cannot be used."""
        given = {}
        for call, mask in masks.items():
            site = site_of(call)
            if site not in self.components:
                raise UsageError(f"masks: there is no site {site!r}; the sites are {', '.join(self.site_names)}")
            given[call] = as_mask(call, mask, self.components[site].n_components, self.components[site].V)
        return given

    def forward(self, batch: Any, ablated: Ablated | None = None) -> Tensor:
        """Output with every component fully on and no delta, the unmasked decomposition, or the target without some.

        Args:
            batch: as the call takes it.
            ablated: components by number, per site or site call, ``{"fc1": [3, 7]}``. They are taken away from the
                target's own weights, with what belongs to them at other sites; an empty mapping gives the target's
                output. ``None`` does what :meth:`ablated` says around the call, if anything does.

        Returns:
            ``[..., d]``.
        """
        ablated = self._ablated if ablated is None else ablated
        if ablated is None:
            return self.masked(batch, self.ones()).output
        return self.masked(batch, self.masks_without(ablated)).output

    @contextmanager
    def ablated(self, components: Ablated) -> Iterator[Self]:
        """Take components away from every call of this model inside a ``with`` block; see :meth:`forward`.

        The target itself stays as it is.

        Args:
            components: numbers by site or site call, ``{"fc1": [3, 7]}``.
        """
        before, self._ablated = self._ablated, components
        try:
            yield self
        finally:
            self._ablated = before

    @contextmanager
    def without(self, components: Ablated) -> Iterator[nn.Module]:
        """Take components away from the target itself inside a ``with`` block, for what calls it in a way of its own.

        ``with model.without({"h.0.mlp.c_fc": [3]}) as network: network.generate(ids)``. Afterwards the target is as it
        was. Nothing is copied, and no weight is changed.

        Args:
            components: numbers by site, as :meth:`forward` takes them; not by site call, since nobody counts here.

        Yields:
            The target.

        Raises:
            UsageError: for what does not exist.
        """
        for name in components:
            if name != site_of(name):
                raise UsageError(f"without: takes whole sites, got the site call {name!r}; name {site_of(name)!r}")
        masks: dict[str, Mask] = dict(self.masks_without(components))

        def run(path: str, index: int, site_input: Tensor, original: Original) -> Any:
            return self._run_module(path, 0, site_input, original, masks, {})

        with self.wrapping.patched(run, _modules_of(masks)):
            yield self.target

    def masks_without(self, ablated: Ablated) -> dict[str, SiteMask]:
        """Masks that take components away from the target's own weights; see :meth:`forward`."""
        sites = {name: site_of(name) for name in ablated}
        return masks_without(ablated, dict(self.components.items()), self.mechanisms, sites)

    def ones(self) -> dict[str, SiteMask]:
        """Every component of every site on."""
        return {name: SiteMask(parts.V.new_ones(parts.n_components)) for name, parts in self.components.items()}

    def _run_module(
        self,
        path: str,
        index: int,
        site_input: Tensor,
        original: Original,
        masks: Mapping[str, Mask],
        routing: Mapping[str, Tensor],
    ) -> Any:
        """What a module puts out with masked components in place of the sites that have masks."""
        sites = self.wrapping.modules[path]
        parts = {}
        for name, site in sites.items():
            mask = of_call(masks, name, index)
            if mask is None:
                continue
            try:
                output = self.components[name](site_input, mask)
            except MaskMisfitError as misfit:
                raise UsageError(f"masks: {name!r}: {misfit}") from None
            routed = of_call(routing, name, index)
            if routed is not None:
                own = site.own_part(original(site_input))
                output = torch.where(routed[..., None], output, own)
            parts[name] = output
        return assembled(sites, parts, lambda: original(site_input)) if parts else original(site_input)


def _modules_of(masks: Iterable[str]) -> set[str]:
    """Paths of the modules that have a site among masks, by site or site call."""
    return {site_of(call).partition("[")[0] for call in masks}
