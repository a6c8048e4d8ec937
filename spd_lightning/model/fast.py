"""The fast form of one batch: what the clean pass knows is not computed again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from spd_lightning.functional.precision import full_precision
from spd_lightning.functional.sigmoids import lower_leaky, upper_leaky
from spd_lightning.kernels import Gate, tabulated_importance
from spd_lightning.model.ci_fns import GateMLP
from spd_lightning.model.component_model import CausalImportance, CleanPass
from spd_lightning.model.decomposed import DecomposedModel
from spd_lightning.model.factored import Factored, Products
from spd_lightning.model.masks import Mask
from spd_lightning.model.streams import FactoredInputs, folds

Activation = Tensor | Factored

ROWS_PER_NODE = 2
"""Below this many examples per node a table that is not compiled costs more than it saves."""


@dataclass(frozen=True)
class FastOptions:
    """How the fast form computes.

    Attributes:
        nodes: nodes of a gate table; 0 evaluates the gates exactly.
        compiled: whether compiled kernels may be used.
    """

    nodes: int = 65
    compiled: bool = True


class FastPass:
    """One batch through the target and the gates, kept for all losses of a step.

    The same mathematics as :meth:`DecomposedModel.clean`, ``causal_importance`` and ``masked``, with these savings.
    Sites before the first replaced one return what the clean pass recorded, and that one reads its recorded inner
    activations. The delta component's share is ``s (a Wᵀ)`` with the components at ``m - s``. A target whose layers
    write to a residual stream that it only reads linearly (see :mod:`spd_lightning.model.streams`) never writes the
    stream out.

    Args:
        model: the decomposition.
        x: the target's input.
        options: how to compute.
    """

    def __init__(self, model: DecomposedModel, x: Any, options: FastOptions) -> None:
        self.model, self.x, self.options = model, x, options
        self._products: Products = {}
        self._folded = folds(model.target, {name: parts.site for name, parts in model.components.items()})
        self._V = {name: parts.V for name, parts in model.components.items()}
        self._U = {name: parts.U for name, parts in model.components.items()}
        self._W = {name: parts.site.weight.T for name, parts in model.components.items()}
        self._inputs: dict[str, Activation] = {}
        self._own: dict[str, Activation] = {}
        with torch.no_grad():
            output = self._run({name: partial(self._record, name) for name in model.site_names})
        self.clean = CleanPass(model.check_output(output), FactoredInputs(model.check_reached(self._inputs)))
        self.inner = {name: self._read(name, self._inputs[name]) for name in model.site_names}

    def importance(self) -> dict[str, CausalImportance]:
        """Causal importances per site, with gradient; in full precision, whatever products are computed in."""
        with full_precision(next(iter(self.inner.values()))):
            return {name: self._importance(name) for name in self.model.site_names}

    def _read(self, name: str, site_input: Activation) -> Tensor:
        """Inner activations, in the type of the parameters also under mixed precision."""
        inner: Tensor = site_input @ self._V[name]
        return inner.to(self._V[name].dtype)

    def tabulated_gate(self, name: str) -> Gate | None:
        """The gate of a site, if it is read from a table here."""
        ci_fn, nodes, inner = self.model.ci_fns[name], self.options.nodes, self.inner[name]
        if type(ci_fn) is not GateMLP or not ci_fn.hidden or not nodes:
            return None
        if not self.options.compiled and inner[..., 0].numel() < ROWS_PER_NODE * nodes:
            return None
        return Gate(*ci_fn.layers())

    def masked(self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None) -> Tensor:
        """See :meth:`DecomposedModel.masked`; the input is this batch."""
        first = next((name for name in self._inputs if name in masks), "")
        return self._run(self._replacements(masks, routing or {}, first))

    def _replacements(
        self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor], first: str
    ) -> dict[str, Callable[[Any], Any]]:
        replacements: dict[str, Callable[[Any], Any]] = {}
        clean = True
        for name in self._inputs:  # in the order in which the target calls its sites
            if name in masks:
                replacements[name] = partial(self._run_site, name, masks[name], routing.get(name), name == first)
                clean = False
            else:
                replacements[name] = partial(self._run_own, name, clean)
        return replacements

    def _run(self, replacements: Mapping[str, Callable[[Any], Any]]) -> Tensor:
        target: Any = self.model.target
        with self.model.patched(replacements):
            if not self._folded:
                return target(self.x)  # type: ignore[no-any-return]
            return target.through(Factored([(self.x, target.embedding)], self._products))  # type: ignore[no-any-return]

    def _importance(self, name: str) -> CausalImportance:
        inner, ci_fn, leak = self.inner[name], self.model.ci_fns[name], self.model.leak
        gate = self.tabulated_gate(name)
        if gate is not None:
            return CausalImportance(*tabulated_importance(inner, gate, self.options.nodes, leak, self.options.compiled))
        # a gate reads inner activations alone: no reason to write out a stream for it
        logits = ci_fn(inner, inner if type(ci_fn) is GateMLP else self.clean.site_inputs[name].to(inner.dtype))
        return CausalImportance(logits, lower_leaky(logits, leak), upper_leaky(logits))

    def _record(self, name: str, site_input: Activation) -> Activation:
        self.model.check_first(name, self._inputs)
        self._inputs[name] = site_input
        self._own[name] = self._through(name, site_input, self._W[name])
        return self._with_bias(name, self._own[name])

    def _run_own(self, name: str, clean: bool, site_input: Activation) -> Activation:
        return self._with_bias(name, self._own[name] if clean else self._through(name, site_input, self._W[name]))

    def _run_site(
        self, name: str, mask: Mask, routed: Tensor | None, clean: bool, site_input: Activation
    ) -> Activation:
        inner = self.inner[name] if clean else self._read(name, site_input)
        output = self._through(name, mask.apply(inner), self._U[name])
        if mask.delta is None and routed is None:
            return self._with_bias(name, output)
        own = self._own[name] if clean else self._through(name, site_input, self._W[name])
        if mask.delta is not None:
            output = output + _scaled(own, mask.delta)  # type: ignore[operator]
        if routed is not None:
            output = _scaled(output, routed) + _scaled(own, ~routed)  # type: ignore[operator]
        return self._with_bias(name, output)

    def _through(self, name: str, activation: Activation, matrix: Tensor) -> Activation:
        """An activation times a matrix, not multiplied out where the result is written to the stream."""
        if name in self._folded and isinstance(activation, Tensor):
            return Factored([(activation, matrix)], self._products)
        return activation @ matrix

    def _with_bias(self, name: str, output: Activation) -> Activation:
        bias = self.model.components[name].site.bias
        return output if bias is None else cast(Tensor, output) + bias  # the writer of a stream has none


def _scaled(activation: Activation, factor: Tensor) -> Activation:
    return activation.scaled(factor) if isinstance(activation, Factored) else factor[..., None] * activation
