"""A training step on a language model, written the way the published PyTorch code computes it.

The formulas are those of the method's papers; the order of work is the published one: every site's difference
``W - (V U)ᵀ`` is made and multiplied, components run at every position and the routing chooses afterwards, each
sigmoid, mask and logarithm is an operation of its own. It reads parameters out of a decomposition and shares nothing
else with it. GPT-2's blocks alone, with shared gates.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.reference_step import lower, upper
from spd_lightning import DecomposedModel, PerSite, SharedMLP

EPS = 1e-12
Draw = Callable[[torch.Size], Tensor]
"""Numbers in [0, 1) of a shape."""


class Site(NamedTuple):
    """One decomposed matrix: the module it is in, its first output there, its numbers and its gates' layers."""

    path: str
    first: int
    W: Tensor
    V: Tensor
    U: Tensor
    gates: list[nn.Linear]


def sites_of(model: DecomposedModel) -> dict[str, Site]:
    """The sites of a decomposed GPT-2, by name."""
    found = {}
    for name, parts in model.components.items():
        gate = cast(PerSite, model.importance_function).of_call(name)
        if not isinstance(gate, SharedMLP):
            raise ValueError(f"the published step knows shared gates, not the {type(gate).__name__} of {name!r}")
        first = parts.site.rows[0].start if parts.site.rows else 0
        layers = cast(list[nn.Linear], list(gate.layers))
        found[name] = Site(name.partition("[")[0], first, parts.site.weight(), parts.V, parts.U, layers)
    return found


class PublishedStep:
    """Faithfulness, one stochastic reconstruction of a random subset of sites, and importance minimality.

    Args:
        model: a decomposed GPT-2.
        coefficients: of the three terms.
        p: exponent of the last.
        draw: where noise comes from.
    """

    def __init__(
        self,
        model: DecomposedModel,
        coefficients: Mapping[str, float],
        p: float,
        draw: Draw = torch.rand,
    ) -> None:
        self.model, self.coefficients, self.p, self.draw = model, coefficients, p, draw
        self.modules = dict(model.target.named_modules())

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term by name."""
        sites = sites_of(self.model)
        target, inputs = self._clean(sites, batch)
        logits = {name: _gate(site, inputs[site.path]) for name, site in sites.items()}
        importance = {name: lower(z, "one_sided") for name, z in logits.items()}
        deltas = {name: site.W - (site.V @ site.U).T for name, site in sites.items()}
        masks = {name: g + (1 - g) * self.draw(g.shape) for name, g in importance.items()}
        shares = {name: self.draw(g.shape[:-1]) for name, g in importance.items()}
        output = self._masked(sites, batch, masks, deltas, shares, self._subset(sites, target.shape[:-1]))
        terms = {
            "faithfulness": torch.stack([delta.square().sum() for delta in deltas.values()]).sum()
            / sum(delta.numel() for delta in deltas.values()),
            "stochastic": F.kl_div(F.log_softmax(output, -1), F.softmax(target, -1), reduction="none").sum(-1).mean(),
            "importance": torch.stack([_penalty(z, self.p) for z in logits.values()]).sum(),
        }
        return torch.stack([self.coefficients[name] * term for name, term in terms.items()]).sum(), terms

    @torch.no_grad()
    def _clean(self, sites: Mapping[str, Site], batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        inputs: dict[str, Tensor] = {}
        hooks = [
            self.modules[path].register_forward_hook(lambda _, given, __, path=path: inputs.update({path: given[0]}))
            for path in {site.path for site in sites.values()}
        ]
        try:
            return self.model.target(**batch).logits, inputs
        finally:
            for hook in hooks:
                hook.remove()

    def _subset(self, sites: Mapping[str, Site], leading: torch.Size) -> dict[str, Tensor]:
        """Per position a number of sites from 1 to all, and so many of them."""
        order = self.draw(torch.Size([len(sites), *leading])).argsort(0).argsort(0)
        count = (self.draw(leading) * len(sites)).long() + 1
        return dict(zip(sites, order < count, strict=True))

    def _masked(
        self,
        sites: Mapping[str, Site],
        batch: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        deltas: Mapping[str, Tensor],
        shares: Mapping[str, Tensor],
        routing: Mapping[str, Tensor],
    ) -> Tensor:
        by_module: dict[str, list[str]] = {}
        for name, site in sites.items():
            by_module.setdefault(site.path, []).append(name)

        def run(path: str, x: Tensor, original: Callable[[Tensor], Tensor]) -> Tensor:
            own = original(x)
            parts = []
            for name in sorted(by_module[path], key=lambda name: sites[name].first):
                site, width = sites[name], sites[name].W.shape[0]
                written = ((x @ site.V) * masks[name]) @ site.U + shares[name][..., None] * (x @ deltas[name].T)
                bias = cast(Tensor, self.modules[path].bias)[site.first : site.first + width]
                before = own[..., site.first : site.first + width]
                parts.append(torch.where(routing[name][..., None], written + bias, before))
            return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

        with self._replaced(by_module, run):
            return cast(Tensor, self.model.target(**batch).logits)

    @contextmanager
    def _replaced(
        self, paths: Mapping[str, Any], run: Callable[[str, Tensor, Callable[[Tensor], Tensor]], Tensor]
    ) -> Iterator[None]:
        for path in paths:
            module = self.modules[path]
            module.forward = lambda x, path=path, original=module.forward: run(path, x, original)
        try:
            yield
        finally:
            for path in paths:
                del self.modules[path].forward


def _gate(site: Site, x: Tensor) -> Tensor:
    *body, head = site.gates
    for layer in body:
        x = F.gelu(layer(x))
    return cast(Tensor, head(x))


def _penalty(z: Tensor, p: float) -> Tensor:
    return (upper(z) + EPS).pow(p).sum(-1).mean()
