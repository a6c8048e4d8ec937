"""One example through a network that is cut at its sites, and gradients along the direct paths between them."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spd_lightning.analysis.attribution_graph import BIAS, COMPONENT, INPUT, NONE, OUTPUT, REST
from spd_lightning.analysis.direct_nodes import Chosen, Reader, Source, entries_of, nodes_at, positions_of
from spd_lightning.analysis.held_norms import HeldNorms
from spd_lightning.functional.precision import full_precision
from spd_lightning.model import DecomposedModel
from spd_lightning.model.assembly import assembled
from spd_lightning.model.call import Arguments
from spd_lightning.model.wrapping import Original, call_name, place_name, site_of

CHUNK = 2**24
"""Numbers that the gradients of one round may take, 64 MB in single precision."""
OUTPUTS = "output"
Found = Sequence[Tensor | None]


class DirectPaths:
    """One example through the network, each site's output replaced by numbers of the same value.

    Thus a gradient is that of the direct path: it passes whatever lies between two sites, and no site.

    Args:
        model: the decomposition.
        batch: one example, as the model's call takes it.
        threshold: importance above which a component is a node.
        chosen: which outputs are nodes.
        hold_norms: whether norms divide as by constants.

    Attributes:
        sources: in the order in which they write.
        readers: in the order in which they read, the outputs last.
    """

    def __init__(self, model: DecomposedModel, batch: Any, threshold: float, chosen: Chosen, hold_norms: bool) -> None:
        self.model, self.threshold = model, threshold
        self.sources: list[Source] = []
        self.readers: list[Reader] = []
        self._places: dict[str, None] = {}
        self._seen: Counter[str] = Counter()
        with torch.no_grad():
            self._clean = model.clean(batch)
            self._importance = model.importance(self._clean)
        self._calls = Counter(map(site_of, self._clean.site_inputs))
        with (
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),
            full_precision(self._clean.output),
            ExitStack() as hooks,
        ):
            for path, module in model.target.named_modules():
                if isinstance(module, nn.Embedding) and path not in model.wrapping.modules:
                    hooks.callback(module.register_forward_hook(self._embedded(path)).remove)
            with HeldNorms() if hold_norms else nullcontext():
                output = model.wrapping.run(batch, self._cut, enter=self._entered).output
            self._read_output(output, chosen)

    @property
    def places(self) -> tuple[str, ...]:
        """Names of places in the order in which the network comes to them, whether they have nodes or not."""
        return (*self._places, OUTPUTS)

    def _counted(self, leading: torch.Size) -> Tensor:
        """Which positions count, boolean ``[positions]``."""
        weights, device = self._clean.weights, self._clean.output.device
        try:
            counted = None if weights.values is None else weights.raw(leading) > 0
        except ValueError:  # an embedding of positions, say, which is the same for all examples
            counted = None
        return torch.ones(leading.numel(), dtype=torch.bool, device=device) if counted is None else counted.flatten()

    def _entered(self, arguments: Arguments) -> Any:
        """Run the target on arguments whose numbers are leaves."""
        single = len(arguments.args) == 1
        names = ["input" if single else f"input.{number}" for number in range(len(arguments.args))]
        args = [self._put_in(name, value, arguments) for name, value in zip(names, arguments.args, strict=True)]
        kwargs = {name: self._put_in(name, value, arguments) for name, value in arguments.kwargs.items()}
        return self.model.target(*args, **kwargs)

    def _put_in(self, name: str, value: Any, arguments: Arguments) -> Any:
        numbers = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0
        if not numbers or value is arguments.weights.values:
            return value
        self._places[name] = None
        leaf = value.detach().clone().requires_grad_()
        rows = leaf.detach().reshape(-1, leaf.shape[-1])
        at, index = ((rows != 0) & self._counted(leaf.shape[:-1])[:, None]).nonzero(as_tuple=True)
        nodes = nodes_at(name, INPUT, index, at, rows[at, index], leaf.shape[:-1])
        self.sources.append(Source(nodes, leaf, lambda gradients: gradients[:, at, index] * rows[at, index]))
        return leaf.clone()

    def _embedded(self, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            leaf = output.detach().clone().requires_grad_()
            name = path if not self._seen[path] else f"{path}@{self._seen[path]}"
            self._seen[path] += 1
            self._places[name] = None
            tokens = args[0].flatten() if args else torch.full(leaf.shape[:-1], NONE, device=leaf.device).flatten()
            self._write_vectors(name, INPUT, leaf, leaf.detach().flatten(0, -2), tokens)
            return leaf.clone()

        return hook

    def _write_vectors(self, place: str, kind: int, leaf: Tensor, vectors: Tensor, indices: Tensor) -> None:
        """Nodes that write a vector ``[positions, d]`` at every position that counts."""
        lengths = vectors.norm(dim=-1)
        at = ((lengths != 0) & self._counted(leaf.shape[:-1])).nonzero()[:, 0]
        nodes = nodes_at(place, kind, indices[at], at, lengths[at], leaf.shape[:-1])
        if len(nodes.values):
            self.sources.append(Source(nodes, leaf, lambda gradients: (gradients[:, at] * vectors[at]).sum(-1)))

    def _cut(self, path: str, index: int, site_input: Tensor, original: Original) -> Any:
        """Let the components of a module's sites read, and go on with leaves."""
        sites = self.model.wrapping.modules[path]
        if place_name(path, index, "in") in self.model.wrapping.copied:
            site_input = site_input.clone()  # the network overwrites it
        with torch.no_grad():
            own = original(site_input)
        earlier, parts = len(self.sources), {}
        for name, site in sites.items():
            leaf = site.own_rows(site.taken(own), -1).detach().clone().requires_grad_()
            self._cut_site(call_name(name, index, self._calls[name]), name, site_input, leaf, earlier)
            parts[name] = leaf.clone()  # the network may write into it
        return assembled(sites, parts, lambda: original(site_input))

    def _cut_site(self, call: str, name: str, site_input: Tensor, leaf: Tensor, earlier: int) -> None:
        self._places[call] = None
        parts, leading = self.model.components[name], leaf.shape[:-1]
        V, U = parts.V.detach(), parts.U.detach()
        importance = self._importance[call].lower.flatten(0, -2)
        at, component = ((importance > self.threshold) & self._counted(leading)[:, None]).nonzero(as_tuple=True)
        written = torch.zeros(len(importance), U.shape[1], dtype=U.dtype, device=U.device)
        if len(at):
            columns, column = torch.unique(component, return_inverse=True)
            inner = parts.site.read(site_input, V[:, columns]).to(V.dtype).flatten(0, -2)
            reads = inner[at, column]
            nodes = nodes_at(call, COMPONENT, component, at, reads.detach(), leading, importance[at, component])
            if reads.requires_grad:
                self.readers.append(Reader(nodes, reads, earlier, len(self.sources)))
            strength, write = nodes.values * nodes.importances, U[columns]
            self.sources.append(Source(nodes, leaf, lambda gradients: (gradients @ write.T)[:, at, column] * strength))
            written = torch.zeros_like(inner).detach().index_put((at, column), strength) @ write
        self._write_remainder(call, leaf, written, parts.site.bias())

    def _write_remainder(self, call: str, leaf: Tensor, written: Tensor, bias: Tensor | None) -> None:
        """What live components do not write, and the bias."""
        nowhere = torch.full((len(written),), NONE, device=leaf.device)
        rest = leaf.detach().flatten(0, -2).to(written.dtype) - written
        if bias is not None:
            constant = bias.detach().to(written.dtype).expand_as(rest)
            rest = rest - constant
            self._write_vectors(call, BIAS, leaf, constant, nowhere)
        self._write_vectors(call, REST, leaf, rest, nowhere)

    def _read_output(self, output: Tensor, chosen: Chosen) -> None:
        rows = output.flatten(0, -2) if output.dim() > 1 else output[None]
        at = positions_of(self._counted(output.shape[:-1]).nonzero()[:, 0], len(rows), chosen.positions)
        if chosen.indices is None:
            indices = rows[at].topk(min(chosen.top, rows.shape[1])).indices
        else:
            indices = torch.tensor(entries_of(chosen.indices, rows.shape[1]), device=rows.device).expand(len(at), -1)
        at, indices = at[:, None].expand_as(indices).flatten(), indices.flatten()
        reads = rows[at, indices]
        nodes = nodes_at(OUTPUTS, OUTPUT, indices, at, reads.detach(), output.shape[:-1])
        self.readers.append(Reader(nodes, reads, len(self.sources), None))

    def attributions(self, reader: Reader, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Attributions of all earlier sources to nodes, a few nodes at a time.

        Args:
            reader: where the nodes read.
            wanted: their numbers among its nodes.

        Yields:
            Numbers of some of the nodes, ``[k]``, and ``[k, sources]``: those of all earlier sources one after
            another.
        """
        sources = self.sources[: reader.earlier]
        leaves = list({id(source.leaf): source.leaf for source in sources}.values())
        if not (reader.reads.requires_grad and leaves and len(wanted)):
            return
        room = max(1, CHUNK // sum(leaf.numel() for leaf in leaves))
        for some in torch.split(wanted, room):
            gradients = _gradients(reader.reads[some.to(reader.reads.device)], leaves)
            by_leaf = {id(leaf): gradient for leaf, gradient in zip(leaves, gradients, strict=True)}
            parts = [_attributed(source, by_leaf[id(source.leaf)], len(some)) for source in sources]
            yield some, torch.cat(parts, 1).cpu().double()


def _attributed(source: Source, gradients: Tensor | None, k: int) -> Tensor:
    values = source.nodes.values
    if gradients is None:
        return values.new_zeros(k, len(values))
    rows = gradients.reshape(k, -1, gradients.shape[-1])
    return source.attributed(rows.to(torch.promote_types(rows.dtype, values.dtype)))


def _gradients(reads: Tensor, leaves: Sequence[Tensor]) -> Found:
    """Gradients of each of ``k`` numbers, ``[k, ...]`` for every leaf; ``None`` for one that they do not depend on."""
    each = torch.eye(len(reads), dtype=reads.dtype, device=reads.device)
    options: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of operations that are taken one after the other
            return cast(Found, torch.autograd.grad(reads, leaves, each, is_grads_batched=True, **options))
    except RuntimeError:  # operations that know no batches of gradients
        rows = [cast(Found, torch.autograd.grad(reads, leaves, one, **options)) for one in each]
    return [_stacked([row[number] for row in rows]) for number in range(len(leaves))]


def _stacked(rows: Found) -> Tensor | None:
    present = [row for row in rows if row is not None]
    return torch.stack(present) if present else None
