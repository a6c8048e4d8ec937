"""A frozen target whose chosen weight matrices are sums of rank-one components."""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.describe import describe
from spd_lightning.errors import UsageError, check_choice, check_flag, check_whole
from spd_lightning.functional.precision import full_precision
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.functional.sigmoids import Leak, lower_leaky, upper_leaky
from spd_lightning.model.ci_fns import CIFunction, GateMLP
from spd_lightning.model.components import Components, Init, StorageTiedComponents, TransposedComponents
from spd_lightning.model.masks import Mask, SiteMask
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.sites import find_sites

CIFactory = Callable[[int, int], CIFunction]
"""Builds the causal-importance function of a site from ``C`` and the width of its input."""


TiedUpdates = Literal["once", "twice"]
Seen = TypeVar("Seen")


class CleanPass(NamedTuple):
    """The target's own output ``[..., d]`` and the input ``[..., d_in]`` that every site received."""

    output: Tensor
    site_inputs: Mapping[str, Tensor]


class CausalImportance(NamedTuple):
    """Logits of one site and their two sigmoids, ``[..., C]`` each: ``lower`` for masks, ``upper`` for the penalty."""

    logits: Tensor
    lower: Tensor
    upper: Tensor


class DecomposedModel(nn.Module):
    """Wraps a frozen target so that chosen linear layers can run on masked components.

    Masks and routing travel as arguments; nothing is left behind in the target between calls. Inputs have any
    leading dimensions, ``[..., d]``.

    Args:
        target: the trained network. It is frozen and put into eval mode; its forward takes one input and
            returns one tensor.
        sites: ``fnmatch`` patterns of module paths to the number of components ``C`` of each match.
        ci_fn: builds a causal-importance function from ``(C, d_in)``, for example ``GateMLP`` or
            ``functools.partial(GateMLP, hidden=[8, 8])``.
        leak: version of the lower-leaky sigmoid: ``"one_sided"`` (later SPD library) or ``"linear"`` (paper).
        use_delta: whether ``W - (V U)ᵀ`` takes part in stochastic and adversarial masking as an extra component
            of causal importance 0 (later SPD library; the paper has none).
        init: how components start: ``"random"`` (later SPD library), ``"overlap"`` (paper) or ``"examples"`` (ours):
            at random until :meth:`start_from_examples` sees some.
        ties: sites whose weight is the transpose of another site's, e.g. ``{"linear2": "linear1"}``: they
            share the other's components, transposed, and keep a causal-importance function of their own.
        tied_updates: ``"once"``, the shared numbers get the summed gradient and one update a step (ours), or
            ``"twice"``, each site keeps optimiser moments of its own and updates them in turn (paper's code).
        seed: seeds the start of components and causal-importance functions.

    Raises:
        UsageError: for patterns, layers, ties or choices that cannot be used.
    """

    def __init__(
        self,
        target: nn.Module,
        sites: dict[str, int],
        ci_fn: CIFactory = GateMLP,
        leak: Leak = "one_sided",
        use_delta: bool = True,
        init: Init = "random",
        ties: dict[str, str] | None = None,
        tied_updates: TiedUpdates = "once",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("leak", leak, get_args(Leak))
        check_choice("init", init, get_args(Init))
        check_choice("tied_updates", tied_updates, get_args(TiedUpdates))
        check_flag("use_delta", use_delta)
        check_whole("seed", seed, most=None)
        self.target = target.requires_grad_(False).eval()
        self.leak, self.use_delta, self.init, self.seed = leak, use_delta, init, seed
        self.ties, self.tied_updates = dict(ties or {}), tied_updates
        self.sites = dict(sites)
        found = find_sites(target, sites)
        self.components: SiteDict[Components] = SiteDict(self._build_components(found))
        self.ci_fns: SiteDict[CIFunction] = SiteDict(
            {name: self._build_ci_fn(ci_fn, layer, count) for name, (layer, count) in found.items()}
        )
        self.reset()

    @classmethod
    def from_pretrained(
        cls, run_dir: str | Path, target: nn.Module | None = None, ci_fn: CIFactory | None = None
    ) -> "DecomposedModel":
        """Restore a decomposition from ``components.safetensors`` and ``config.json``.

        Args:
            run_dir: the folder that holds both files.
            target: needed when the decomposed network is a class of yours; its weights are filled in from
                the file, or checked against it where the file leaves them out.
            ci_fn: needed when the causal-importance functions are a class of yours.

        Returns:
            The decomposition, with the same numbers that were saved.

        Raises:
            UsageError: if files are missing, damaged, or do not fit the target.
        """
        # the artefact's format belongs to export, which builds on this class
        from spd_lightning.export import load_decomposition

        return load_decomposition(run_dir, target, ci_fn)

    @property
    def site_names(self) -> list[str]:
        """Names of the sites, in the order of the target's modules."""
        return list(self.components)

    @property
    def shares_storage(self) -> bool:
        """Whether parameters of two sites are views of the same numbers (``tied_updates: twice``)."""
        return any(isinstance(parts, StorageTiedComponents) for parts in self.components.values())

    def describe_ci_fn(self) -> dict[str, Any]:
        """Class and hyper-parameters of the causal-importance functions, as plain data."""
        _, ci_fn = next(iter(self.ci_fns.items()))
        return describe(ci_fn, {"n_components", "d_in"})

    def reset(self) -> None:
        """Draw components and causal-importance functions anew from the seed, for the target's present weights."""
        for name in self.site_names:
            self.components[name].reset(self.init, keyed_generator(self.seed, "components", name))
            self.ci_fns[name].reset(keyed_generator(self.seed, "ci_fn", name))

    def start_from_examples(self, x: Any) -> None:
        """Start the components anew from what reaches their sites; causal-importance functions stay.

        Args:
            x: the target's input.

        Raises:
            UsageError: if nothing but zeros reaches a site.
        """
        with full_precision(next(iter(self.components.values())).V):
            for name, site_input in self.clean(x).site_inputs.items():
                try:
                    self.components[name].start_from(site_input, keyed_generator(self.seed, "examples", name))
                except ValueError as error:
                    raise UsageError(f"init: 'examples' cannot start {name!r}: {error}; use 'random'") from None

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

    def causal_importance(self, site_inputs: Mapping[str, Tensor]) -> dict[str, CausalImportance]:
        """Predict how far each component may be ablated, under mixed precision too by gates in full precision.

        Args:
            site_inputs: clean inputs of the sites, as recorded by :meth:`clean`.

        Returns:
            Logits and both leaky sigmoids per site.
        """
        importances = {}
        for name, site_input in site_inputs.items():
            inner = self.components[name].inner(site_input).to(self.components[name].V.dtype)
            with full_precision(inner):
                logits = self.ci_fns[name](inner, site_input.to(inner.dtype))
            importances[name] = CausalImportance(logits, lower_leaky(logits, self.leak), upper_leaky(logits))
        return importances

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

    def _build_components(self, found: Mapping[str, tuple[nn.Linear, int]]) -> dict[str, Components]:
        parts = {name: Components(layer, count) for name, (layer, count) in found.items() if name not in self.ties}
        for name, source in self.ties.items():
            if name not in found or source not in parts:
                raise UsageError(f"ties: {name!r} and {source!r} must be two different sites, got {list(found)}")
            layer, owner = found[name][0], parts[source]
            if layer.weight.shape != owner.site.weight.T.shape or found[name][1] != owner.n_components:
                raise UsageError(f"ties: {name!r} must be the transpose of {source!r} and have the same C")
            tied = TransposedComponents if self.tied_updates == "once" else StorageTiedComponents
            parts[name] = tied(layer, owner)
        return {name: parts[name] for name in found}

    @staticmethod
    def _build_ci_fn(ci_fn: CIFactory, layer: nn.Linear, count: int) -> CIFunction:
        return ci_fn(count, layer.in_features).to(layer.weight)  # the type and device of what it reads

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
