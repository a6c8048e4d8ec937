"""A frozen target whose chosen weight matrices are sums of components that span all of them (APD paper, section 2)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_choice, check_list, check_number, check_whole
from spd_lightning.functional.attribution import SitePart, attributions, relative_attributions
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.model.call import TargetCall
from spd_lightning.model.component_model import ComponentModel
from spd_lightning.model.components import Components
from spd_lightning.model.grouping import Grouping
from spd_lightning.model.passes import CausalImportance, CleanPass
from spd_lightning.model.sites import Site, find_sites
from spd_lightning.model.ties import TiedComponents, tied_components
from spd_lightning.model.tracing import Trace, gradients_of_outputs, traced
from spd_lightning.model.wrapping import Original

AttributionSource = Literal["target", "components"]


class Attributed(NamedTuple):
    """A clean pass and the attributions ``[..., C]`` of its examples."""

    clean: CleanPass
    scores: Tensor


class AttributedModel(ComponentModel):
    """A frozen target that can run on parameter components, chosen by gradient attributions (APD paper).

    Component ``c`` has one matrix in every site; all of them are on or off together.

    Args:
        target: the trained network. It is frozen and put into eval mode.
        sites: ``fnmatch`` patterns of module paths, see :class:`spd_lightning.DecomposedModel`.
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
        call: how a batch becomes the target's arguments; ``None`` for :class:`AutomaticCall`.
        kinds: kinds of sites that are tried before the package's own.

    Raises:
        UsageError: for patterns, modules, ties, a rank or choices that cannot be used.
    """

    reader: ClassVar[Callable[..., "AttributedModel"]]
    """Reads the artefact; set by the room that knows its format, which builds on this class."""

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
        call: TargetCall | None = None,
        kinds: Sequence[type[Site]] | None = None,
    ) -> None:
        check_list("sites", sites)
        check_whole("n_components", n_components, least=1)
        check_choice("attribution_source", attribution_source, get_args(AttributionSource))
        check_number("init_scale", init_scale)
        check_whole("seed", seed, most=None)
        if not 0 < init_scale < float("inf"):
            raise UsageError(f"init_scale must be a finite number above 0, got {init_scale}")
        self_kinds = list(kinds or [])
        found = find_sites(target, dict.fromkeys(sites, n_components), self_kinds)
        _check_rank(rank, found)
        super().__init__(target, found, call)
        self.kinds = self_kinds
        self.sites, self.n_components, self.rank = list(sites), n_components, rank
        self.attribution_source, self.ties = attribution_source, dict(ties or {})
        self.init_scale, self.seed = init_scale, seed
        self.components = tied_components(found, self.ties, self._build, TiedComponents)
        self.importance_function = nn.Module()
        self.reset()

    @cached_property
    def mechanisms(self) -> Grouping:
        """Component ``c`` of all sites is one mechanism."""
        return Grouping.across(self.site_names, self.n_components)

    @classmethod
    def from_pretrained(
        cls, run_dir: str | Path, target: nn.Module | None = None, call: TargetCall | None = None
    ) -> "AttributedModel":
        """Restore components from ``components.safetensors`` and ``config.json``.

        Args:
            run_dir: the folder that holds both files.
            target: needed when the decomposed network is a class of yours that is not imported; its weights are filled
                in from the file, or checked against it where the file leaves them out.
            call: the same for the way the target is called.

        Returns:
            The components on their target, with the same numbers that were saved.

        Raises:
            UsageError: if files are missing, damaged, or do not fit the target.
        """
        return cls.reader(run_dir, target, call)

    def reset(self) -> None:
        """Draw the components anew from the seed."""
        for name in self.site_names:
            self.components[name].reset_glorot(self.init_scale, keyed_generator(self.seed, "components", name))

    def attributed(self, batch: Any) -> Attributed:
        """Run the target as it is, and find out how much each component changes its output, to first order.

        Where outputs of one example or position depend on others, their gradients are added up.

        Args:
            batch: as the call takes it.

        Returns:
            The clean pass and attributions ``[..., C]``, without gradient; see
            :func:`spd_lightning.functional.attributions`.

        Raises:
            UsageError: if the output does not depend on a site in a way that has a gradient.
        """
        with torch.enable_grad():
            trace = traced(self.wrapping, batch)
            clean = CleanPass(trace.output.detach(), self.by_call(self._by_site(trace.inputs)), trace.weights)
            if self.attribution_source == "components":
                trace = traced(self.wrapping, batch, self._run_components)
            gradients = gradients_of_outputs(trace.output, trace.offsets)
        leading = trace.output.shape[:-1]
        with torch.no_grad():
            parts = [part for place in gradients for part in self._parts(place, trace, gradients[place])]
            scores = attributions(parts).reshape(*leading, -1)
        return Attributed(clean, scores)

    def importance_of(self, batch: Any) -> dict[str, CausalImportance]:
        """Attributions as shares of each example's largest, the same for every site."""
        clean, scores = self.attributed(batch)
        shares = relative_attributions(scores)
        return dict.fromkeys(clean.site_inputs, CausalImportance(scores, shares, shares))

    def _build(self, site: Site, count: int) -> Components:
        return Components(site, count, min(site.d_in, site.d_out) if self.rank is None else self.rank)

    def _by_site(self, by_module: Mapping[tuple[str, int], Tensor]) -> dict[tuple[str, int], Tensor]:
        modules = self.wrapping.modules
        return {(name, index): x for (path, index), x in by_module.items() for name in modules[path]}

    def _run_components(self, path: str, index: int, site_input: Tensor, original: Original) -> Tensor:
        output: Tensor = self._run_module(path, index, site_input, original, self.ones(), {})
        return output

    def _parts(self, place: tuple[str, int], trace: Trace, gradient: Tensor) -> list[SitePart]:
        """What the attributions of one module call are made of, a part per site of the module."""
        parts = []
        for name, site in self.wrapping.modules[place[0]].items():
            components = self.components[name]
            inner, own = components.inner(trace.inputs[place]), site.own_part(gradient)
            if inner.shape[:-2] != trace.output.shape[:-1]:
                raise UsageError(
                    f"sites: {name!r} has positions {list(inner.shape[:-2])}, the output has "
                    f"{list(trace.output.shape[:-1])}; attributions need them to be the same; "
                    "leave the site out or use method: spd"
                )
            parts.append(SitePart(inner.flatten(0, -3), components.U, own.flatten(1, -2)))
        return parts


def _check_rank(rank: int | None, found: Mapping[str, tuple[Site, int]]) -> None:
    if rank is None:
        return
    check_whole("rank", rank, least=1)
    for name, (site, _) in found.items():
        most = min(site.d_in, site.d_out) + 1
        if rank > most:
            raise UsageError(
                f"rank must be at most {most}, one above that of the weight of {name!r}, or null, got {rank}"
            )
