"""The fast form of one batch of the baseline, for targets whose residual stream is only read linearly."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spd_lightning.functional.attribution import SitePart, attributions
from spd_lightning.model.attributed import Attributed, AttributedModel, SparsePass, gradients_of_outputs
from spd_lightning.model.component_model import CleanPass
from spd_lightning.model.factored import Factored, Products
from spd_lightning.model.streams import FactoredInputs, LinearStream, folds


class Offset(NamedTuple):
    """What would be added to a read of the stream if a site wrote something else; zero.

    Attributes:
        writer: the site.
        read: the matrix ``[d_stream, r]`` that reads the stream.
        value: ``[..., r]``.
    """

    writer: str
    read: Tensor
    value: Tensor


class TracedStream(Factored):
    """A stream that keeps, for each of its reads, the place where the gradient of each writing site is to be found.

    Args:
        terms: see :class:`Factored`.
        products: see :class:`Factored`.
        writers: names of the sites that wrote to it.
        offsets: where the places are kept.
    """

    def __init__(
        self, terms: list[tuple[Tensor, Tensor]], products: Products, writers: list[str], offsets: list[Offset]
    ) -> None:
        super().__init__(terms, products)
        self.writers, self.offsets = writers, offsets

    def __add__(self, other: Factored) -> "TracedStream":
        """The sum of two streams."""
        assert isinstance(other, TracedStream)
        return TracedStream(self.terms + other.terms, self.products, self.writers + other.writers, self.offsets)

    def __matmul__(self, read: Tensor) -> Tensor:
        """The stream read by a matrix ``[d, r]``: ``[..., r]``."""
        value = super().__matmul__(read)
        for writer in self.writers:
            self.offsets.append(Offset(writer, read, torch.zeros_like(value, requires_grad=True)))
            value = value + self.offsets[-1].value
        return value

    def detach(self) -> Factored:
        """The stream's present numbers alone."""
        return Factored([(coefficients.detach(), directions) for coefficients, directions in self.terms], self.products)


class AttributedPass:
    """One batch through the target and its components, kept for all losses of a step.

    The same mathematics as :meth:`AttributedModel.attributed` and :meth:`AttributedModel.sparse`. The stream is never
    written out: what a component writes is multiplied by the few matrices that read it, once per step and not per
    example, and so are gradients. What the first site reads is not computed again.

    Args:
        model: the decomposition, see :meth:`suits`.
        x: the target's input.

    Attributes:
        clean_outputs: what the target's own sites put out, ``[..., d_out]``, but for those that write to the stream.
    """

    def __init__(self, model: AttributedModel, x: Tensor) -> None:
        self.model, self.x = model, x
        self._products: Products = {}
        self._writers = _folded(model)
        # kept, since products are known by the identity of their factors
        self._V = {name: parts.V.flatten(1) for name, parts in model.components.items()}
        self._U = {name: parts.U.flatten(0, 1) for name, parts in model.components.items()}
        self._inputs: dict[str, Tensor | Factored] = {}
        self._offsets: list[Offset] = []
        self._own: dict[str, Tensor] = {}
        self.clean_outputs: dict[str, Tensor] = {}
        with torch.enable_grad():
            self._output = self._trace()
            self._inner = {name: self._read(name, site_input) for name, site_input in self._inputs.items()}

    @staticmethod
    def suits(model: AttributedModel) -> bool:
        """Whether a model's target offers such a stream and its attributions are the target's."""
        return model.attribution_source == "target" and bool(_folded(model))

    def attributed(self) -> Attributed:
        """See :meth:`AttributedModel.attributed`."""
        places = {**self._own, **{str(index): offset.value for index, offset in enumerate(self._offsets)}}
        with torch.enable_grad():
            gradients = gradients_of_outputs(self._output, places)
            parts = [self._part(name, name, gradients) for name in self._own]
            parts += [self._part(o.writer, str(index), gradients, o.read) for index, o in enumerate(self._offsets)]
        scores = attributions(parts).reshape(*self._output.shape[:-1], -1)
        return Attributed(CleanPass(self._output.detach(), FactoredInputs(self._inputs)), scores)

    def sparse(self, mask: Tensor) -> SparsePass:
        """See :meth:`AttributedModel.sparse`; one mask ``[..., C]`` for every site."""
        seen: dict[str, Tensor | Factored] = {}

        def run(name: str, site_input: Tensor | Factored) -> Tensor | Factored:
            inner = self._inner[name] if name == self._first else self._read(name, site_input)
            masked = (inner * mask[..., None]).flatten(-2)
            seen[name] = self._written(name, masked)
            return seen[name]

        output = self._run(run, Factored([(self.x, self._stream.embedding)], self._products))
        return SparsePass(output, FactoredInputs({name: seen[name] for name in self.model.site_names}))

    @property
    def _stream(self) -> LinearStream:
        return cast(LinearStream, self.model.target)

    def _trace(self) -> Tensor:
        """The clean pass; every place whose gradient is wanted is kept."""
        stream = TracedStream([(self.x, self._stream.embedding)], self._products, [], self._offsets)
        output = self.model.check_output(self._run(self._record, stream))
        self._first = next(iter(self._inputs), "")  # in the order of calls, which need not be that of modules
        self._inputs = self.model.check_reached(self._inputs)
        return output

    def _record(self, name: str, site_input: Tensor | TracedStream) -> Tensor | TracedStream:
        self.model.check_first(name, self._inputs)
        self._inputs[name] = site_input.detach()
        layer = self.model.components[name].site
        if name in self._writers:
            assert isinstance(site_input, Tensor)
            return TracedStream([(site_input, layer.weight.T)], self._products, [name], self._offsets)
        output = self._with_bias(name, site_input @ layer.weight.T)
        self.clean_outputs[name] = output.detach()
        self._own[name] = torch.zeros_like(output, requires_grad=True)
        return output + self._own[name]

    def _run(self, run: Callable[[str, Any], Any], stream: Factored) -> Tensor:
        with self.model.patched({name: partial(run, name) for name in self.model.site_names}):
            return self._stream.through(stream)

    def _read(self, name: str, site_input: Tensor | Factored) -> Tensor:
        inner = site_input @ self._V[name]
        return inner.reshape(*inner.shape[:-1], *self.model.components[name].V.shape[1:])

    def _written(self, name: str, masked: Tensor) -> Tensor | Factored:
        if name in self._writers:
            return Factored([(masked, self._U[name])], self._products)
        return self._with_bias(name, masked @ self._U[name])

    def _with_bias(self, name: str, output: Tensor) -> Tensor:
        bias = self.model.components[name].site.bias
        return output if bias is None else output + bias

    def _part(self, name: str, place: str, gradients: Mapping[str, Tensor], read: Tensor | None = None) -> SitePart:
        parts = self.model.components[name]
        write = self._U[name] if read is None else Factored([], self._products).product(self._U[name], read)
        inner = self._inner[name].detach().flatten(0, -3)
        return SitePart(inner, write.detach().reshape(*parts.U.shape[:2], -1), gradients[place].flatten(1, -2))


def _folded(model: AttributedModel) -> frozenset[str]:
    return folds(model.target, {name: parts.site for name, parts in model.components.items()})
