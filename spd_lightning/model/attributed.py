"""A frozen target whose chosen weight matrices are sums of components that span all of them (APD paper, section 2)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_choice, check_list, check_number, check_whole
from spd_lightning.functional.attribution import SitePart, attributions, relative_attributions
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.model.ci_fns import CIFunction
from spd_lightning.model.component_model import CausalImportance, CleanPass, ComponentModel
from spd_lightning.model.full_components import FullComponents, TransposedFullComponents
from spd_lightning.model.masks import Mask
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.sites import find_sites

AttributionSource = Literal["target", "components"]


class Attributed(NamedTuple):
    """A clean pass and the attributions ``[..., C]`` of its examples."""

    clean: CleanPass
    scores: Tensor


class SparsePass(NamedTuple):
    """The output of the masked network, and what its sites put out on the way, ``[..., d_out]`` each."""

    output: Tensor
    site_outputs: Mapping[str, Tensor]


class AttributedModel(ComponentModel[FullComponents]):
    """A frozen target that can run on parameter components, chosen by gradient attributions (APD paper).

    Component ``c`` has one matrix in every site; all of them are on or off together.

    Args:
        target: the trained network. It is frozen and put into eval mode; its forward takes one input and
            returns one tensor.
        sites: ``fnmatch`` patterns of module paths.
        n_components: ``C``, the number of components.
        rank: number ``m`` of rank-one terms of a component in a site, at most one above the matrix's rank (the toy
            models of the released code have that one more); ``None`` for as many as that rank.
        attribution_source: whether gradients are those of the ``"target"`` (released code) or of the ``"components"``,
            all of them on (the paper's 5-2 toy model).
        ties: sites whose weight is the transpose of another site's, e.g. ``{"linear2": "linear1"}``: their
            components are the other's, transposed.
        init_scale: factor of the Glorot-normal start, taken for each component alone. The released code takes Glorot's
            rule for the whole tensor of components, whose start is narrower by far (see docs/apd.md).
        seed: seeds the start of the components.

    Raises:
        UsageError: for patterns, layers, ties, a rank or choices that cannot be used.
    """

    spans_sites = True
    own_importance = "attribution over the largest"
    batch_importance = "kept (1) or not by the batch's top-k"

    def __init__(
        self,
        target: nn.Module,
        sites: list[str],
        n_components: int,
        rank: int | None = None,
        attribution_source: AttributionSource = "target",
        ties: dict[str, str] | None = None,
        init_scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        check_list("sites", sites)
        check_whole("n_components", n_components, least=1)
        check_choice("attribution_source", attribution_source, get_args(AttributionSource))
        check_number("init_scale", init_scale)
        check_whole("seed", seed, most=None)
        if not 0 < init_scale < float("inf"):
            raise UsageError(f"init_scale must be a finite number above 0, got {init_scale}")
        found = find_sites(target, dict.fromkeys(sites, n_components))
        _check_rank(rank, found)
        super().__init__(target)
        self.sites, self.n_components, self.rank = list(sites), n_components, rank
        self.attribution_source, self.ties = attribution_source, dict(ties or {})
        self.init_scale, self.seed = init_scale, seed
        self.components = SiteDict(self.tied_components(found, self.ties, self._build, TransposedFullComponents))
        self.ci_fns: SiteDict[CIFunction] = SiteDict({})
        self.reset()

    @classmethod
    def from_pretrained(cls, run_dir: str | Path, target: nn.Module | None = None) -> "AttributedModel":
        """Restore components from ``components.safetensors`` and ``config.json``.

        Args:
            run_dir: the folder that holds both files.
            target: needed when the decomposed network is a class of yours; its weights are filled in from
                the file, or checked against it where the file leaves them out.

        Returns:
            The components on their target, with the same numbers that were saved.

        Raises:
            UsageError: if files are missing, damaged, or do not fit the target.
        """
        # the artefact's format belongs to export, which builds on this class
        from spd_lightning.export import load_attributed

        return load_attributed(run_dir, target)

    def reset(self) -> None:
        """Draw the components anew from the seed."""
        for name, parts in self.components.items():
            parts.reset(self.init_scale, keyed_generator(self.seed, "components", name))

    def attributed(self, x: Any) -> Attributed:
        """Run the target as it is, and find out how much each component changes its output, to first order.

        Where outputs of one example or position depend on others, their gradients are added up.

        Args:
            x: the target's input.

        Returns:
            The clean pass and attributions ``[..., C]``, without gradient; see
            :func:`spd_lightning.functional.attributions`.

        Raises:
            UsageError: if the output does not depend on a site in a way that has a gradient.
        """
        with torch.enable_grad():
            clean = trace = self._trace(x, self._run_target)
            if self.attribution_source == "components":
                trace = self._trace(x, self._run_components)
            gradients = gradients_of_outputs(trace.output, trace.offsets)
        leading = trace.output.shape[:-1]
        with torch.no_grad():
            parts = [self._part(name, trace.inputs[name], gradient) for name, gradient in gradients.items()]
            scores = attributions(parts).reshape(*leading, -1)
        inputs = {name: site_input.detach() for name, site_input in clean.inputs.items()}
        return Attributed(CleanPass(clean.output.detach(), inputs), scores)

    def importance_of(self, x: Any) -> dict[str, CausalImportance]:
        """Attributions as shares of each example's largest, the same for every site."""
        scores = self.attributed(x).scores
        shares = relative_attributions(scores)
        return dict.fromkeys(self.site_names, CausalImportance(scores, shares, shares))

    def sparse(self, x: Any, masks: Mapping[str, Mask]) -> SparsePass:
        """Run the target with masked components in place of all sites, and keep what the sites put out.

        Args:
            x: the target's input.
            masks: per site.

        Returns:
            Output and site outputs, with gradient.
        """
        seen: dict[str, Tensor] = {}

        def run(name: str, site_input: Tensor) -> Tensor:
            seen[name] = self.components[name](site_input, masks[name].components)
            return seen[name]

        with self.patched({name: partial(run, name) for name in self.site_names}):
            output = self.target(x)
        return SparsePass(output, seen)

    def _build(self, layer: nn.Linear, count: int) -> FullComponents:
        full = min(layer.in_features, layer.out_features)
        return FullComponents(layer, count, full if self.rank is None else self.rank)

    def _trace(self, x: Any, run: Callable[[str, Tensor], Tensor]) -> "_Trace":
        """A pass that knows the gradient with respect to what every site puts out."""
        inputs: dict[str, Tensor] = {}
        offsets: dict[str, Tensor] = {}

        def recorded(name: str, site_input: Tensor) -> Tensor:
            self.check_first(name, inputs)
            inputs[name] = site_input
            output = run(name, site_input)
            offsets[name] = torch.zeros_like(output, requires_grad=True)  # whatever is done to the sum in place
            return output + offsets[name]

        with self.patched({name: partial(recorded, name) for name in self.site_names}):
            output = self.check_output(self.target(x))
        return _Trace(output, self.check_reached(inputs), self.check_reached(offsets))

    def _run_target(self, name: str, site_input: Tensor) -> Tensor:
        layer = self.components[name].site
        return F.linear(site_input, layer.weight, layer.bias)

    def _run_components(self, name: str, site_input: Tensor) -> Tensor:
        parts = self.components[name]
        output: Tensor = parts(site_input, site_input.new_ones(parts.n_components))
        return output

    def _part(self, name: str, site_input: Tensor, gradient: Tensor) -> SitePart:
        parts = self.components[name]
        inner = parts.inner(site_input).flatten(0, -3)
        return SitePart(inner, parts.U, gradient.flatten(1, -2))


class _Trace(NamedTuple):
    output: Tensor
    inputs: dict[str, Tensor]
    offsets: dict[str, Tensor]


def _check_rank(rank: int | None, found: Mapping[str, tuple[nn.Linear, int]]) -> None:
    if rank is None:
        return
    check_whole("rank", rank, least=1)
    for name, (layer, _) in found.items():
        most = min(layer.in_features, layer.out_features) + 1
        if rank > most:
            raise UsageError(
                f"rank must be at most {most}, one above that of the weight of {name!r}, or null, got {rank}"
            )


def gradients_of_outputs(output: Tensor, offsets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of every output, summed over examples.

    Args:
        output: ``[..., d]``.
        offsets: by site what was added, ``[..., d_out]``.

    Returns:
        ``[d, ..., d_out]`` by site.

    Raises:
        UsageError: if there is none.
    """
    if not output.requires_grad:
        raise UsageError("target: its output has no gradient with respect to any site; is it computed without one?")
    width = output.shape[-1]
    one_each = torch.eye(width).to(output).reshape(width, *[1] * (output.dim() - 1), width)
    every = one_each.expand(width, *output.shape)
    found = torch.autograd.grad(output, list(offsets.values()), every, is_grads_batched=True, allow_unused=True)
    for name, gradient in zip(offsets, found, strict=True):
        if gradient is None:
            raise UsageError(f"sites: the target's output has no gradient with respect to {name!r}; leave it out")
    return dict(zip(offsets, found, strict=True))
