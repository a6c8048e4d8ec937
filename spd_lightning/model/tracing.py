"""Passes that know the gradient with respect to what the modules of sites put out."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional.sampling import RowShare, own_rows
from spd_lightning.functional.weights import Weights
from spd_lightning.model.wrapping import Keeper, Original, Wrapping, place_name

Place = TypeVar("Place", bound=Hashable)


class Runner(Protocol):
    """Runs a module of a site in one way or another."""

    def __call__(self, path: str, index: int, site_input: Tensor, original: Original) -> Tensor:
        """What the module puts out."""
        ...


class Trace(NamedTuple):
    """A pass with its places: what went into every module call, and zeros that were added to what came out."""

    output: Tensor
    inputs: dict[tuple[str, int], Tensor]
    offsets: dict[tuple[str, int], Tensor]
    weights: Weights


def run_original(path: str, index: int, site_input: Tensor, original: Original) -> Tensor:
    """What the target's own module puts out."""
    output: Tensor = original(site_input)
    return output


def traced(wrapping: Wrapping, batch: Any, run: Runner = run_original) -> Trace:
    """Run a target with gradients to what the modules of its sites put out; to be called where gradients are on.

    Args:
        wrapping: what runs the target.
        batch: as its call takes it.
        run: runs a module of a site.

    Returns:
        The pass.
    """

    def trace(keeper: Keeper) -> Trace:
        inputs: dict[tuple[str, int], Tensor] = {}
        offsets: dict[tuple[str, int], Tensor] = {}

        def recorded(path: str, index: int, site_input: Tensor, original: Original) -> Tensor:
            inputs[path, index] = keeper.keep(place_name(path, index, "in"), site_input.detach())
            output = run(path, index, site_input, original)
            offsets[path, index] = torch.zeros_like(output, requires_grad=True)  # whatever is done to the sum in place
            return output + offsets[path, index]

        output = wrapping.run(batch, recorded).output
        return Trace(output, inputs, offsets, wrapping.call.arguments(batch).weights)

    return wrapping.until_kept(trace)


def gradients_of_outputs(output: Tensor, offsets: Mapping[Place, Tensor]) -> dict[Place, Tensor]:
    """Gradients of every output, summed over examples.

    Args:
        output: ``[..., d]``.
        offsets: by place what was added there.

    Returns:
        By place, ``d`` in front of the dimensions of what was added.

    Raises:
        UsageError: if there is none.
    """
    if not output.requires_grad:
        raise UsageError("target: its output has no gradient with respect to any site; is it computed without one?")
    width = output.shape[-1]
    one_each = torch.eye(width).to(output).reshape(width, *[1] * (output.dim() - 1), width)
    every = one_each.expand(width, *output.shape)
    found: Sequence[Tensor | None] = torch.autograd.grad(
        output, list(offsets.values()), every, is_grads_batched=True, allow_unused=True
    )
    gradients = {}
    for place, gradient in zip(offsets, found, strict=True):
        if gradient is None:
            name = str(place[0] if isinstance(place, tuple) else place)
            raise UsageError(f"sites: the target's output has no gradient with respect to {name!r}; leave it out")
        gradients[place] = gradient
    return gradients


def output_gradients(
    wrapping: Wrapping, batch: Any, generator: Generator, share: RowShare | None = None
) -> dict[tuple[str, int], Tensor]:
    """Gradients of one random reading of a target's output, with respect to what its sites put out.

    The reading is the sum of the output's entries with random signs. So over draws, means of products of gradients are
    those of the output's Jacobian, summed over all its entries: a direction that nothing downstream reads has none.

    Args:
        wrapping: what runs the target.
        batch: as its call takes it.
        generator: draws the signs.
        share: which rows of a batch these are, see :func:`own_rows`; ``None`` for all.

    Returns:
        By site and number of its call ``[..., d_out]``; zero where the output has no gradient with respect to it, or
        one that half precision cannot hold.
    """
    with torch.enable_grad():
        output, _, offsets, weights = traced(wrapping, batch)
        signs = 2 * own_rows(_zeros_and_ones, output.shape, generator, share).to(output) - 1
        counted = weights.of(output.shape[:-1])
        reading = signs if counted is None else signs * (counted > 0)[..., None]
        found = torch.autograd.grad(output, list(offsets.values()), reading, materialize_grads=True)
    return {
        (name, index): site.own_part(gradient).nan_to_num(0.0, 0.0, 0.0)
        for (path, index), gradient in zip(offsets, found, strict=True)
        for name, site in wrapping.modules[path].items()
    }


def _zeros_and_ones(shape: Sequence[int], generator: Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device, dtype=torch.int8)
