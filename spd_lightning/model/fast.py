"""The fast form of one batch: what the clean pass knows is not computed again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional.distances import DistanceKind, distance
from spd_lightning.functional.losses import mean_over_examples
from spd_lightning.functional.precision import full_precision, single
from spd_lightning.functional.sampling import RowShare
from spd_lightning.functional.weights import Weights
from spd_lightning.kernels import (
    Explained,
    Gate,
    divergences,
    leaky_sigmoids,
    mean_squared_rest,
    power_sums,
    tabulated_importance,
)
from spd_lightning.model.assembly import assembled, of_call
from spd_lightning.model.call import Arguments
from spd_lightning.model.decomposed import DecomposedModel
from spd_lightning.model.factored import Factored, Products
from spd_lightning.model.importance import InnerActivations, PerSite
from spd_lightning.model.masks import Mask, UniformMask
from spd_lightning.model.passes import CausalImportance, CleanPass, MaskedPass
from spd_lightning.model.sites import Site
from spd_lightning.model.streams import FactoredInputs, folds
from spd_lightning.model.wrapping import Keeper, Original, Overwritten, calls_in_order, place_name, site_of

Activation = Tensor | Factored
ModuleCall = tuple[str, int]

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


class Recorded(NamedTuple):
    """One call of a module in the clean pass.

    Attributes:
        site_input: what it was called with.
        product: that times the module's matrix, ``[..., rows]``; ``None`` where the module itself was run.
        output: what the module put out where there is no product; a product leads to it by an addition.
    """

    site_input: Activation
    product: Activation | None
    output: Activation | None


class FastForm:
    """One batch through the target and the importance function, kept for all losses of a step.

    The same mathematics as :class:`PlainForm`, with these savings. Modules before the first replaced site return what
    the clean pass recorded, and that site reads its recorded inner activations. The delta component's share is
    ``s (a Wᵀ)`` with the components at ``m - s``. Per-component gates are read from tables, noise is drawn where it is
    used, and the gradient of faithfulness is written down. A target whose layers write to a residual stream that it
    only reads linearly (see :mod:`spd_lightning.model.streams`) never writes the stream out.

    Args:
        model: the decomposition.
        batch: as the call takes it.
        options: how to compute.
    """

    def __init__(self, model: DecomposedModel, batch: Any, options: FastOptions = FastOptions()) -> None:
        self.model, self.batch, self.options = model, batch, options
        self._wrapping = model.wrapping
        self._products: Products = {}
        # kept, since products are known by the identity of their factors
        self._V = {name: parts.V for name, parts in model.components.items()}
        self._U = {name: parts.U for name, parts in model.components.items()}
        self._W: dict[str, Tensor] = {path: self._a_site(path).matrix().T for path in self._wrapping.modules}
        arguments = model.call.arguments(batch)
        self._folded = folds(model.target, self._wrapping.sites) if _is_plain(arguments) else frozenset()
        self._calls: dict[ModuleCall, Recorded] = {}
        with torch.no_grad():
            output: Tensor = self._wrapping.until_kept(self._record_all)
        reached = {
            (name, index): recorded
            for (path, index), recorded in self._calls.items()
            for name in self._wrapping.modules[path]
        }
        inputs = {call: recorded.site_input for call, recorded in model.by_call(reached).items()}
        self._names = calls_in_order(reached, model.site_names)
        self.clean = CleanPass(output, FactoredInputs(inputs), arguments.weights)
        sites, read = self._wrapping.sites, {call: self._V[site_of(call)] for call in inputs}
        # bound to no method of this form: in a cycle it would keep a whole step until Python looks for cycles
        self._inner = InnerActivations(
            {call: partial(_inner, sites[site_of(call)], read[call], x) for call, x in inputs.items()}, output
        )

    @cached_property
    def importance(self) -> Mapping[str, CausalImportance]:
        """Causal importances per site call, with gradient; in full precision, whatever products are computed in."""
        function = self.model.importance_function
        some = next(iter(self._V.values()))
        with full_precision(some):
            if not isinstance(function, PerSite) or not function.is_separable:
                return self._with_sigmoids(self.model.logits(self._inner, self.model.features(self.clean)))
            tables = {call: self.tabulated_gate(call) for call in self._inner}
            asked = {call: partial(self.inner, call) for call in self._inner if tables[call] is None}
            exact = InnerActivations(asked, some)
            found = self._with_sigmoids(self.model.logits(exact, self.model.features(self.clean))) if exact else {}
            for call, gate in tables.items():
                if gate is not None:
                    found[call] = self._tabulated(self._inner[call], gate)
        return {call: found[call] for call in self._inner}

    def _with_sigmoids(self, logits: Mapping[str, Tensor]) -> dict[str, CausalImportance]:
        both = {call: leaky_sigmoids(z, self.model.leak, self.options.compiled) for call, z in logits.items()}
        return {call: CausalImportance(z, *both[call]) for call, z in logits.items()}

    def inner(self, call: str) -> Tensor:
        """See :class:`Form`."""
        return self._inner[call]

    @property
    def calls(self) -> list[str]:
        """Site calls, in the order of the sites."""
        return list(self._inner)

    def tabulated_gate(self, call: str) -> Gate | None:
        """The gate of a site call, if it is read from a table here."""
        function, nodes = self.model.importance_function, self.options.nodes
        gate = function.gate_of(call) if isinstance(function, PerSite) else None
        if gate is None or not nodes:
            return None
        if not self.options.compiled and self._inner[call][..., 0].numel() < ROWS_PER_NODE * nodes:
            return None
        return Gate(*gate.layers())

    def distance(self, kind: DistanceKind, output: Tensor, weights: Tensor | None) -> Tensor:
        """See :class:`Form`."""
        if kind != "kl":
            return distance(kind, output, self.clean.output, weights)
        prediction, target = single(output), single(self.clean.output)
        with full_precision(prediction):
            return mean_over_examples(divergences(prediction, target, self.options.compiled), weights)

    def faithfulness(self) -> Tensor:
        """See :class:`Form`."""
        parts = self.model.explained()
        return mean_squared_rest([Explained(one.site.weight().to(one.V.dtype), one.V, one.U) for one in parts])

    def penalty(self, calls: Iterable[str], p: float, eps: float, weights: Weights) -> Tensor:
        """See :class:`Form`."""
        alike: dict[torch.Size, list[Tensor]] = {}
        for call in calls:
            upper = self.importance[call].upper
            alike.setdefault(upper.shape[:-1], []).append(upper)
        means = [weights.mean(power_sums(uppers, p, eps, self.options.compiled)) for uppers in alike.values()]
        return sum(means[1:], means[0])

    def uniform_mask(self, call: str, delta: Tensor | None, seed: int, share: RowShare | None) -> Mask:
        """See :class:`Form`."""
        return UniformMask(self.importance[call].lower, delta, seed, self.options.compiled, share)

    def masked(
        self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
    ) -> MaskedPass:
        """See :class:`Form`."""
        first = next(self._replaced(masks), None)
        clean = True

        def run(path: str, index: int, site_input: Activation, original: Original) -> Any:
            nonlocal clean
            was_clean = clean
            clean = clean and (path, index) != first
            return self._run_module((path, index), site_input, original, was_clean, masks, routing or {})

        returned = self._wrapping.run(self.batch, run, keep, enter=self._enter)
        self._check_kept()
        return MaskedPass(returned.output, returned.kept)

    def _replaced(self, masks: Mapping[str, Mask]) -> Iterator[ModuleCall]:
        """Calls of modules that have a masked site, in the order in which the target makes them."""
        for path, index in self._calls:
            if any(of_call(masks, name, index) is not None for name in self._wrapping.modules[path]):
                yield path, index

    def _record_all(self, keeper: Keeper) -> Tensor:
        self._calls.clear()
        self._keeper = keeper
        return self._wrapping.run(self.batch, self._record, enter=self._enter).output

    def _record(self, path: str, index: int, site_input: Activation, original: Original) -> Any:
        product = self._through(path, site_input)
        output = original(site_input) if product is None else self._finished(path, product)
        if isinstance(site_input, Tensor):
            site_input = self._keeper.keep(place_name(path, index, "in"), site_input)
        self._calls[path, index] = Recorded(site_input, product, output if product is None else None)
        # a copy, if there is one, goes to the network: what is kept here may share its numbers with the product
        return self._keeper.keep(place_name(path, index, "out"), output) if isinstance(output, Tensor) else output

    def _check_kept(self) -> None:
        try:
            self._keeper.check()
        except Overwritten as overwritten:
            raise UsageError(
                f"target: with masks it overwrites {sorted(overwritten.places)[0]!r}, without them it does not; let it "
                "write to a copy"
            ) from None

    def _enter(self, arguments: Arguments) -> Any:
        target: Any = self.model.target
        if not self._folded:
            return target(*arguments.args, **arguments.kwargs)
        return target.through(Factored([(arguments.args[0], target.embedding)], self._products))

    def _run_module(
        self,
        call: ModuleCall,
        site_input: Activation,
        original: Original,
        clean: bool,
        masks: Mapping[str, Mask],
        routing: Mapping[str, Tensor],
    ) -> Any:
        path, index = call
        sites = self._wrapping.modules[path]
        masked = {name: mask for name in sites if (mask := of_call(masks, name, index)) is not None}
        if not masked:
            return self._own_output(call, site_input, original, clean)
        if isinstance(site_input, Tensor) and place_name(path, index, "in") in self._wrapping.copied:
            site_input = site_input.clone()  # the network overwrites it, and gradients need it
        product = _Lazy(lambda: self._own_product(call, site_input, clean))
        outputs = {
            name: self._run_site(name, index, mask, of_call(routing, name, index), site_input, product, clean)
            for name, mask in masked.items()
        }
        if isinstance(site_input, Factored) or path in self._folded:
            (output,) = outputs.values()
            return output
        return assembled(sites, outputs, lambda: self._own_output(call, site_input, original, clean))

    def _run_site(
        self,
        name: str,
        index: int,
        mask: Mask,
        routed: Tensor | None,
        site_input: Activation,
        product: "_Lazy",
        clean: bool,
    ) -> Any:
        """What a masked site puts out, ``[..., d_out]``, with its bias."""
        site = self._wrapping.sites[name]
        if routed is not None and self._can_choose(name, site_input):
            return site.output(self._at_its_positions(name, mask, routed, site_input, product))
        inner = self._inner[self._names[name, index]] if clean else self._read(name, site_input)
        output = self._written(name, mask.apply(inner))
        if mask.delta is not None:
            output = output + _scaled(_rows(site, product()), mask.delta)
        if routed is not None:
            output = _scaled(output, routed) + _scaled(_rows(site, product()), ~routed)
        return output if isinstance(output, Factored) else site.output(output)

    def _can_choose(self, name: str, site_input: Activation) -> bool:
        """Whether components can be run at some positions alone, and shall be.

        Only on a CPU: elsewhere the host would have to wait for the number of positions.
        """
        if isinstance(site_input, Factored) or name in self._folded:
            return False
        return self._wrapping.sites[name].apart and site_input.device.type == "cpu"

    def _at_its_positions(self, name: str, mask: Mask, routed: Tensor, site_input: Any, product: "_Lazy") -> Tensor:
        """What a routed site puts out, without its bias: components are run where they take part, and only there."""
        chosen, leading = routed.flatten().nonzero()[:, 0], routed.shape
        inner = self._read(name, site_input.flatten(0, len(leading) - 1).index_select(0, chosen))
        written = mask.apply_at(chosen, inner, leading) @ self._U[name]
        left: Any = 0.0 if mask.delta is None else mask.delta
        own = _scaled(_rows(self._wrapping.sites[name], product()), torch.where(routed, left, 1.0))
        output: Tensor = own.flatten(0, -2).index_add(0, chosen, written.to(own.dtype)).view_as(own)
        return output

    def _own_output(self, call: ModuleCall, site_input: Activation, original: Original, clean: bool) -> Any:
        """What the module itself puts out."""
        if not clean:
            product = self._through(call[0], site_input)
            return original(site_input) if product is None else self._finished(call[0], product)
        recorded = self._calls[call]
        output = recorded.output if recorded.product is None else self._finished(call[0], recorded.product)
        overwritten = place_name(*call, "out") in self._wrapping.copied
        return output.clone() if overwritten and isinstance(output, Tensor) else output

    def _own_product(self, call: ModuleCall, site_input: Activation, clean: bool) -> Activation:
        """The input times the module's matrix, in at least single precision."""
        recorded = self._calls[call].product if clean else self._through(call[0], site_input)
        if recorded is not None:
            return recorded
        site = self._a_site(call[0])
        return site.read(site_input, self._W[call[0]].to(site.kind_of_components))  # type: ignore[arg-type]

    def _through(self, path: str, site_input: Activation) -> Activation | None:
        """The input times the module's matrix; ``None`` in half precision, where the module rounds in its own way."""
        matrix, site = self._W[path], self._a_site(path)
        if path in self._folded and isinstance(site_input, Tensor):
            return Factored([(site_input, matrix)], self._products)
        if isinstance(site_input, Factored):
            return site_input @ matrix
        return site.read(site_input, matrix) if matrix.dtype == site.kind_of_components else None

    def _written(self, name: str, inner: Tensor) -> Activation:
        """Masked inner activations times the write vectors, not multiplied out where the result joins a stream."""
        if name in self._folded:
            return Factored([(inner, self._U[name])], self._products)
        return inner @ self._U[name]

    def _read(self, name: str, site_input: Activation) -> Tensor:
        return _inner(self._wrapping.sites[name], self._V[name], site_input)

    def _finished(self, path: str, product: Activation) -> Activation:
        """A module's output from its matrix's product; a writer of a stream has no bias."""
        if isinstance(product, Factored):
            return product
        site, bias = self._a_site(path), self._a_site(path).vector()
        return site.place(product if bias is None else product + bias)

    def _tabulated(self, inner: Tensor, gate: Gate) -> CausalImportance:
        options = self.options
        return CausalImportance(*tabulated_importance(inner, gate, options.nodes, self.model.leak, options.compiled))

    def _a_site(self, path: str) -> Site:
        return next(iter(self._wrapping.modules[path].values()))


class _Lazy:
    """Something that is computed once, if at all."""

    def __init__(self, make: Any) -> None:
        self._make, self._made = make, None

    def __call__(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made


def _is_plain(arguments: Arguments) -> bool:
    """Whether the target takes one tensor and nothing else."""
    return len(arguments.args) == 1 and not arguments.kwargs and isinstance(arguments.args[0], Tensor)


def _inner(site: Site, read: Tensor, site_input: Activation) -> Tensor:
    """Inner activations, in the type of the parameters also under mixed precision."""
    inner = site_input @ read if isinstance(site_input, Factored) else site.read(site_input, read)
    return inner.to(read.dtype)


def _rows(site: Site, product: Activation) -> Any:
    return product if isinstance(product, Factored) else site.own_rows(product, -1)


def _scaled(activation: Any, factor: Tensor) -> Any:
    return activation.scaled(factor) if isinstance(activation, Factored) else factor[..., None] * activation
