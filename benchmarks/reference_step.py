"""One training step the way the papers write it: vectorised, and otherwise without any cleverness.

It reads parameters out of a decomposition and shares nothing else with it: networks, gates, sigmoids, masks and losses
are written here once more. Every loss term runs the whole network, the layerwise one once per site, and the gates hold
``[batch, C, hidden]`` numbers. That is what the fast step is compared with, in value and in time.

Symbols follow the papers. A site has ``W [d_out, d_in]``, ``V [d_in, C]`` and ``U [C, d_out]``; ``a [N, d_in]`` is what
it receives, ``h = a V``, ``z`` the logits, ``g`` the importances, ``r`` the noise and ``m = g + (1 - g) r`` the masks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning import DecomposedModel, GateMLP, PerSite, ResidualMLP, ToyModelOfSuperposition

SLOPE = 0.01
Apply = Callable[[str, Tensor], Tensor]
"""Runs one layer, by name, on what it receives."""


class SiteNoise(NamedTuple):
    """What one loss term draws for one site: ``r [N, C]`` and the delta component's mask ``[N]``."""

    source: Tensor
    delta: Tensor | None = None


TermNoise = Mapping[str, SiteNoise]


@dataclass(frozen=True)
class Formula:
    """Coefficients of the four terms, and the exponent of the last."""

    faithfulness: float = 1.0
    stochastic: float = 1.0
    layerwise: float = 1.0
    importance: float = 3e-3
    p: float = 1.0


class Site(NamedTuple):
    """The numbers of one site; ``gate`` is in weight and bias ``[C, hidden]``, out weight, out bias ``[C]``."""

    W: Tensor
    bias: Tensor | None
    V: Tensor
    U: Tensor
    gate: tuple[Tensor, Tensor, Tensor, Tensor]


def read_sites(model: DecomposedModel, dtype: torch.dtype) -> dict[str, Site]:
    """A decomposition's numbers in a floating type, with gradient to its parameters."""
    sites = {}
    function = model.importance_function
    for name, parts in model.components.items():
        ci_fn = function.of_call(name) if isinstance(function, PerSite) else None
        if not isinstance(ci_fn, GateMLP) or len(ci_fn.hidden) != 1:
            raise ValueError(f"the reference step knows gates with one hidden layer, not the one of {name!r}")
        w, o = (weight.to(dtype) for weight in ci_fn.weights)
        b, z0 = (bias.to(dtype) for bias in ci_fn.biases)
        vector = parts.site.bias()
        bias = None if vector is None else vector.to(dtype)
        gate = (w[:, 0], b, o[..., 0], z0[:, 0])
        sites[name] = Site(parts.site.weight().to(dtype), bias, parts.V.to(dtype), parts.U.to(dtype), gate)
    return sites


# ---- the target networks, given how a layer is run


def toy_model(target: ToyModelOfSuperposition, x: Tensor, apply: Apply) -> Tensor:
    """``relu(W2 H ... W1 x + b)``."""
    hidden = apply("linear1", x)
    for index in range(target.n_identity_layers):
        hidden = apply(f"hidden_layers.{index}", hidden)
    return apply("linear2", hidden).relu()


def residual_mlp(target: ResidualMLP, x: Tensor, apply: Apply) -> Tensor:
    """``x E``, then ``stream + W_out relu(W_in stream)`` per layer, then ``Eᵀ``."""
    embedding = target.embedding.to(x)
    stream = x @ embedding
    for index in range(target.n_layers):
        neurons = apply(f"layers.{index}.mlp_in", stream).relu()
        stream = stream + apply(f"layers.{index}.mlp_out", neurons)
    return stream @ embedding.T


def network(target: nn.Module, x: Tensor, apply: Apply) -> Tensor:
    """The target's output when its layers are run by ``apply``."""
    if isinstance(target, ToyModelOfSuperposition):
        return toy_model(target, x, apply)
    if isinstance(target, ResidualMLP):
        return residual_mlp(target, x, apply)
    raise ValueError(f"the reference step does not know how a {type(target).__name__} works")


# ---- one site


def own(site: Site, a: Tensor) -> Tensor:
    """The layer as it is."""
    return F.linear(a, site.W, site.bias)


def masked(site: Site, a: Tensor, mask: Tensor, delta: Tensor | None) -> Tensor:
    """``((a V) m) U``, the delta component ``W - (V U)ᵀ`` under its own mask, and the frozen bias."""
    output = ((a @ site.V) * mask) @ site.U
    if delta is not None:
        output = output + delta[:, None] * (a @ (site.W - (site.V @ site.U).T).T)
    return output if site.bias is None else output + site.bias


def logits(site: Site, h: Tensor) -> Tensor:
    """Every component's own small network, from its inner activation to its logit, with the exact GELU."""
    w, b, o, z0 = site.gate
    hidden = F.gelu(torch.einsum("nc,ch->nch", h, w) + b)
    return torch.einsum("nch,ch->nc", hidden, o) + z0


class _OneSided(torch.autograd.Function):
    """Clamp to [0, 1]; at ``z <= 0`` a gradient passes, times 0.01, if descent along it would raise ``z``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (z,), (G,) = ctx.saved_tensors, grad_outputs
        below = torch.where(G < 0, SLOPE * G, 0.0)
        return torch.where(z <= 0, below, torch.where(z <= 1, G, 0.0))


def lower(z: Tensor, leak: str) -> Tensor:
    """Importance for masks; ``linear`` leaks below 0 as it is written, ``one_sided`` by a rule of its own."""
    if leak == "one_sided":
        return cast(Tensor, _OneSided.apply(z))  # type: ignore[no-untyped-call]
    return torch.where(z <= 0, SLOPE * z, torch.where(z <= 1, z, 1.0))


def upper(z: Tensor) -> Tensor:
    """Importance for the penalty; leaks above 1."""
    return torch.where(z <= 0, 0.0, torch.where(z <= 1, z, 1 + SLOPE * (z - 1)))


# ---- the terms


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over examples ``[N]``, weighted where rows stand for different numbers of them."""
    return values.mean() if weights is None else (weights * values).sum()


def faithfulness(sites: Iterable[Site]) -> Tensor:
    """Mean squared entry of ``W - (V U)ᵀ`` over all sites."""
    deltas = [site.W - (site.V @ site.U).T for site in sites]
    return torch.stack([d.square().sum() for d in deltas]).sum() / sum(d.numel() for d in deltas)


def importance(z: Iterable[Tensor], p: float, weights: Tensor | None) -> Tensor:
    """Sum of ``g ** p`` over sites and components, mean over examples."""
    return torch.stack([mean(upper(logit).pow(p).sum(-1), weights) for logit in z]).sum()


class ReferenceStep:
    """The objective of one batch.

    Args:
        model: where parameters, leak and the use of the delta component are read from.
        formula: coefficients and exponent.
        dtype: type that everything is computed in. Gradients arrive in the parameters' own.
    """

    def __init__(self, model: DecomposedModel, formula: Formula, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.formula, self.dtype = model, formula, dtype

    def __call__(
        self, x: Tensor, weights: Tensor | None = None, noise: Mapping[str, TermNoise] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the objective.

        Args:
            x: the batch, ``[N, n_features]``.
            weights: of the examples, ``[N]``, summing to 1.
            noise: for the terms ``stochastic`` and ``layerwise``, per site; drawn afresh where it is missing.

        Returns:
            The weighted sum, with gradient, and each term by name.
        """
        x, weights = x.to(self.dtype), None if weights is None else weights.to(self.dtype)
        sites = read_sites(self.model, self.dtype)
        output, inputs = self._clean(sites, x)
        z = {name: logits(site, inputs[name] @ site.V) for name, site in sites.items()}
        # once for all terms: the one-sided leak looks at the sum of their gradients
        g = {name: lower(logit, self.model.leak) for name, logit in z.items()}

        def distance(masks: TermNoise) -> Tensor:
            return mean((self._masked(sites, x, masks) - output).square().mean(-1), weights)

        together, single = (self._masks(g, (noise or {}).get(term)) for term in ("stochastic", "layerwise"))
        terms = {
            "faithfulness": faithfulness(sites.values()),
            "stochastic": distance(together),
            "layerwise": torch.stack([distance({name: mask}) for name, mask in single.items()]).mean(),
            "importance": importance(z.values(), self.formula.p, weights),
        }
        return torch.stack([getattr(self.formula, name) * term for name, term in terms.items()]).sum(), terms

    def _clean(self, sites: Mapping[str, Site], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The target's own output and what every site receives."""
        seen: dict[str, Tensor] = {}

        def apply(name: str, a: Tensor) -> Tensor:
            seen[name] = a
            return own(sites[name], a)

        with torch.no_grad():
            return network(self.model.target, x, apply), seen

    def _masks(self, g: Mapping[str, Tensor], given: TermNoise | None) -> dict[str, SiteNoise]:
        """``m = g + (1 - g) r`` and the delta component's mask, per site."""
        masks = {}
        for name, lower_g in g.items():
            noise = self._draw(lower_g) if given is None else given[name]
            masks[name] = SiteNoise(lower_g + (1 - lower_g) * noise.source, noise.delta)
        return masks

    def _draw(self, g: Tensor) -> SiteNoise:
        return SiteNoise(torch.rand_like(g), torch.rand_like(g[:, 0]) if self.model.use_delta else None)

    def _masked(self, sites: Mapping[str, Site], x: Tensor, masks: TermNoise) -> Tensor:
        """The network with masked components at some sites and the target's own weights at the others."""

        def apply(name: str, a: Tensor) -> Tensor:
            mask = masks.get(name)
            return own(sites[name], a) if mask is None else masked(sites[name], a, mask.source, mask.delta)

        return network(self.model.target, x, apply)
