"""The fast form of one batch of the baseline, for targets whose residual stream is only read linearly."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spd_lightning.functional.attribution import SitePart, attributions
from spd_lightning.model.attributed import Attributed, AttributedModel
from spd_lightning.model.attributed_form import AttributedForm
from spd_lightning.model.factored import Factored, Products
from spd_lightning.model.passes import CleanPass, MaskedPass
from spd_lightning.model.streams import FactoredInputs, LinearStream, folds
from spd_lightning.model.tracing import gradients_of_outputs
from spd_lightning.model.wrapping import Original


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


class AttributedPass(AttributedForm):
    """One batch through the target and its components, kept for all losses of a step.

    The same mathematics as :class:`AttributedForm`. The stream is never written out: what a component writes is
    multiplied by the few matrices that read it, once per step and not per example, and so are gradients. What the first
    site reads is not computed again.

    Args:
        model: the decomposition, see :meth:`suits`.
        batch: the target's input.
    """

    def __init__(self, model: AttributedModel, batch: Any) -> None:
        (x,) = model.call.arguments(batch).args
        self.model, self.batch, self.x = model, batch, cast(Tensor, x)
        self._weights = model.call.arguments(batch).weights
        self._products: Products = {}
        self._writers = folds(model.target, model.wrapping.sites)
        # kept, since products are known by the identity of their factors
        self._V = {name: parts.V.flatten(1) for name, parts in model.components.items()}
        self._U = {name: parts.U.flatten(0, 1) for name, parts in model.components.items()}
        self._inputs: dict[str, Tensor | Factored] = {}
        self._offsets: list[Offset] = []
        self._own: dict[str, Tensor] = {}
        self._clean_outputs: dict[str, Tensor] = {}
        with torch.enable_grad():
            self._output = self._trace()
            self._inner = {name: self._read(name, site_input) for name, site_input in self._inputs.items()}
        super().__init__(model, batch)

    @staticmethod
    def suits(model: AttributedModel, batch: Any) -> bool:
        """Whether a model's target offers such a stream and its attributions are the target's."""
        arguments = model.call.arguments(batch)
        plain = len(arguments.args) == 1 and not arguments.kwargs
        return model.attribution_source == "target" and plain and bool(folds(model.target, model.wrapping.sites))

    def attributed(self) -> Attributed:
        """See :meth:`AttributedModel.attributed`."""
        places = {**self._own, **{str(index): offset.value for index, offset in enumerate(self._offsets)}}
        with torch.enable_grad():
            gradients = gradients_of_outputs(self._output, places)
            parts = [self._part(name, name, gradients) for name in self._own]
            parts += [self._part(o.writer, str(index), gradients, o.read) for index, o in enumerate(self._offsets)]
        scores = attributions(parts).reshape(*self._output.shape[:-1], -1)
        return Attributed(CleanPass(self._output.detach(), FactoredInputs(self._inputs), self._weights), scores)

    @cached_property
    def sparse(self) -> MaskedPass:
        """See :class:`AttributedForm`."""
        seen: dict[str, Tensor | Factored] = {}
        mask = next(iter(self.importance.values())).lower

        def run(name: str, index: int, site_input: Tensor | Factored, original: Original) -> Tensor | Factored:
            inner = self._inner[name] if name == self._first else self._read(name, site_input)
            masked = (inner * mask[..., None]).flatten(-2)
            seen[name] = self._written(name, masked)
            return seen[name]

        output = self._run(run, Factored([(self.x, self._stream.embedding)], self._products))
        return MaskedPass(output, FactoredInputs({name: seen[name] for name in self.model.site_names}))

    def clean_output(self, call: str) -> Tensor:
        """See :class:`AttributedForm`."""
        return self._clean_outputs[call] if call in self._clean_outputs else super().clean_output(call)

    @property
    def _stream(self) -> LinearStream:
        return cast(LinearStream, self.model.target)

    def _trace(self) -> Tensor:
        """The clean pass; every place whose gradient is wanted is kept."""
        stream = TracedStream([(self.x, self._stream.embedding)], self._products, [], self._offsets)
        output = self._run(self._record, stream)
        self._first = next(iter(self._inputs), "")  # in the order of calls, which need not be that of modules
        self._inputs = self.model.by_call({(name, 0): site_input for name, site_input in self._inputs.items()})
        return output

    def _record(
        self, name: str, index: int, site_input: Tensor | TracedStream, original: Original
    ) -> Tensor | TracedStream:
        self._inputs[name] = site_input.detach()
        matrix = self.model.components[name].site.matrix().T
        if name in self._writers:
            assert isinstance(site_input, Tensor)
            return TracedStream([(site_input, matrix)], self._products, [name], self._offsets)
        output = self._with_bias(name, site_input @ matrix)
        self._clean_outputs[name] = output.detach()
        self._own[name] = torch.zeros_like(output, requires_grad=True)
        return output + self._own[name]

    def _run(self, run: Callable[..., Any], stream: Factored) -> Tensor:
        return self.model.wrapping.run(self.batch, run, enter=lambda _: self._stream.through(stream)).output

    def _read(self, name: str, site_input: Tensor | Factored) -> Tensor:
        inner = site_input @ self._V[name]
        return inner.reshape(*inner.shape[:-1], *self.model.components[name].V.shape[1:])

    def _written(self, name: str, masked: Tensor) -> Tensor | Factored:
        if name in self._writers:
            return Factored([(masked, self._U[name])], self._products)
        return self._with_bias(name, masked @ self._U[name])

    def _with_bias(self, name: str, output: Tensor) -> Tensor:
        bias = self.model.components[name].site.bias()
        return output if bias is None else output + bias

    def _part(self, name: str, place: str, gradients: Mapping[str, Tensor], read: Tensor | None = None) -> SitePart:
        parts = self.model.components[name]
        write = self._U[name] if read is None else Factored([], self._products).product(self._U[name], read)
        inner = self._inner[name].detach().flatten(0, -3)
        return SitePart(inner, write.detach().reshape(*parts.U.shape[:2], -1), gradients[place].flatten(1, -2))
