"""Where a network begins and ends: which sites read its input as it is, and which write straight to its output."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spd_lightning.model import DecomposedModel
from spd_lightning.model.sites import ConvolutionSite, EmbeddingSite
from spd_lightning.model.streams import LinearStream
from spd_lightning.model.wrapping import site_of

_SUMS, _NORMS = {"Add", "Sub", "Sum", "Mean"}, {"NativeLayerNorm"}
_SHAPES = {"View", "UnsafeView", "Reshape", "Transpose", "T", "Permute", "Slice", "Select", "Index", "Squeeze"}
_SHAPES |= {"Unsqueeze", "Expand"}
_PASSING = _SUMS | _NORMS | _SHAPES | {"Clone", "Alias", "ToCopy"}
"""Steps of autograd through which what a site writes stays what it is, but for a scale and a place."""


@runtime_checkable
class LinearReadout(Protocol):
    """A target that reads its output off its stream by a matrix that is no module's.

    Attributes:
        readout: ``[outputs, d_stream]``.
    """

    readout: Tensor


@dataclass(frozen=True)
class Ends:
    """Sites at the ends of a network, and what their vectors mean there.

    Attributes:
        read: by site that reads the input, what takes a read vector to the inputs, ``[inputs, d_in]``; ``None`` where
            its entries are the inputs.
        written: by site that writes straight to the output, what takes a write vector there, ``[outputs, d_out]``;
            ``None`` where its entries are the outputs.
        inputs: by site that reads it, the shape of one example's input; empty for tokens.
        outputs: how many outputs there are.
    """

    read: Mapping[str, Tensor | None] = field(default_factory=dict)
    written: Mapping[str, Tensor | None] = field(default_factory=dict)
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: int = 0


def ends(model: DecomposedModel, batch: Any) -> Ends:
    """Look at one batch's way through a network.

    A site writes straight to the output if it is the last matrix, or if what it writes reaches the last linear layer
    through nothing but sums, changes of shape and norms, as the matrices that write to a residual stream do. The gain
    of a norm that stands before the last layer is taken in, its scale and its mean are not. What cannot be followed,
    such as writing into a part of a tensor, counts as no straight way.

    Args:
        model: the decomposition.
        batch: as its call takes it.
    """
    clean = model.clean(batch)
    given = [leaf for leaf in tree_leaves(model.call.arguments(batch)[:2]) if isinstance(leaf, Tensor)]
    shapes = {site_of(call): _shape(model, call, found, given) for call, found in clean.site_inputs.items()}
    inputs = {site: shape for site, shape in shapes.items() if shape is not None}
    read: dict[str, Tensor | None] = dict.fromkeys(inputs)
    written, target = _written(model, batch), model.target
    if isinstance(target, LinearStream):
        readers = [path for path in target.stream_readers if path in model.components]
        read |= dict.fromkeys(readers, target.embedding)
        inputs |= dict.fromkeys(readers, tuple(target.embedding.shape[:1]))
        if isinstance(target, LinearReadout):
            written |= {path: target.readout for path in target.stream_writers if path in model.components}
    return Ends(read, written, inputs, clean.output.shape[-1])


def _shape(model: DecomposedModel, call: str, site_input: Tensor, given: Sequence[Tensor]) -> tuple[int, ...] | None:
    """The shape of one example of the input that a site reads as it is; ``None`` if it reads something else."""
    site = model.components[site_of(call)].site
    same = next((leaf for leaf in given if _is_same(leaf, site_input)), None)
    if same is None or isinstance(site, ConvolutionSite):  # a patch is no example
        return None
    if isinstance(site, EmbeddingSite):
        return ()
    if site.d_in == same.shape[1:].numel():
        return tuple(same.shape[1:])
    return tuple(same.shape[-1:]) if site.d_in == same.shape[-1] else None


def _is_same(given: Tensor, site_input: Tensor) -> bool:
    whole = given.numel() == site_input.numel() and given.shape[:1] == site_input.shape[:1]
    return whole and bool((given.reshape(-1) == site_input.reshape(-1)).all())


class _Walk:
    """What hooks have seen of one run: what sites wrote, and the last matrix with what went into it."""

    def __init__(self, sites: Mapping[nn.Module, str]) -> None:
        self.sites, self.wrote = sites, dict[Tensor, str]()
        self.last: tuple[nn.Module, Tensor, Tensor | None] | None = None
        self.gain: Tensor | None = None  # of a norm that nothing has followed yet

    def see(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        """Follow a module that has parameters; what a site puts out begins a way of its own."""
        if not isinstance(output, Tensor) or len(given) != 1 or not isinstance(given[0], Tensor):
            return None
        if "norm" in type(module).__name__.lower() and output.shape == given[0].shape:
            self.gain = getattr(module, "weight", None)
            return output.detach() + (given[0] - given[0].detach())  # the same numbers, and a way through
        self.last, self.gain = (module, given[0], self.gain), None
        if module not in self.sites:
            return None
        leaf = output.detach().requires_grad_()
        self.wrote[leaf] = self.sites[module]
        return leaf.clone()  # which the network may write into


def _written(model: DecomposedModel, batch: Any) -> dict[str, Tensor | None]:
    """The matrix from what a site writes to the output, by site."""
    whole = {parts.site.module: name for name, parts in model.components.items() if parts.site.rows is None}
    walk = _Walk(whole)
    with torch.enable_grad(), _watched(model.target, walk.see):
        output = model.wrapping.run(batch, lambda path, index, given, original: original(given), (), ()).output
    if walk.last is None:
        return {}
    last, given, gain = walk.last
    weight = _matrix(model, last, whole)
    if weight is None or output.shape[-1] != len(weight):
        return {}
    reached = {walk.wrote[leaf] for leaf in _straight(given) if leaf in walk.wrote}
    if gain is not None and gain.shape == weight.shape[1:]:
        weight = weight * gain
    found: dict[str, Tensor | None] = dict.fromkeys(sorted(reached), weight)
    return found | ({whole[last]: None} if last in whole else {})


def _matrix(model: DecomposedModel, module: nn.Module, sites: Mapping[nn.Module, str]) -> Tensor | None:
    if module in sites and not isinstance(model.components[sites[module]].site, ConvolutionSite):
        return model.components[sites[module]].site.weight()
    return module.weight if isinstance(module, nn.Linear) else None


@contextmanager
def _watched(target: nn.Module, see: Callable[..., Any]) -> Iterator[None]:
    leaves = (module for module in target.modules() if next(module.children(), None) is None)
    watched = [module for module in leaves if next(module.parameters(), None) is not None]
    hooks = [module.register_forward_hook(see) for module in watched]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _straight(tensor: Tensor) -> Iterator[Tensor]:
    """Leaves that a tensor is made of by steps that let everything pass."""
    waiting, seen = [tensor.grad_fn], set[Any]()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if hasattr(step, "variable"):
            yield step.variable
        elif step.name().rstrip("0123456789").removesuffix("Backward") in _PASSING:
            waiting.extend(before for before, _ in step.next_functions)


@torch.no_grad()
def strongest(vectors: Tensor, through: Tensor | None, shown: int) -> tuple[Tensor, Tensor]:
    """Entries of vectors that are largest in magnitude, at the end of a network.

    Args:
        vectors: ``[n, d]``.
        through: what takes them there, ``[k, d]``; ``None`` where they are there.
        shown: how many entries.

    Returns:
        Values and numbers of the entries, ``[n, shown]`` each; fewer where there are fewer.
    """
    values, numbers = [], []
    for part in torch.split(vectors, 256):  # so that nothing as large as components times vocabulary is made
        there = part if through is None else part @ through.T.to(part)
        found = there.abs().topk(min(shown, there.shape[1])).indices
        values.append(there.gather(1, found))
        numbers.append(found)
    return torch.cat(values).cpu(), torch.cat(numbers).cpu()
