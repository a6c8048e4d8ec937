"""Whether a target takes a batch at all, asked before components come into it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from spd_lightning.errors import UsageError
from spd_lightning.model.call import Arguments
from spd_lightning.model.component_model import ComponentModel

LONGEST = 160


def check_takes(model: ComponentModel, batch: object) -> None:
    """Run the target as it is on a copy of a batch.

    Args:
        model: the decomposition, whose call says how a batch becomes arguments.
        batch: as the call takes it; it is not changed.

    Raises:
        UsageError: with the shapes of the arguments and what the target said of them.
    """
    copy = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)
    arguments = model.call.arguments(copy)
    try:
        with torch.no_grad():
            model.target(*arguments.args, **arguments.kwargs)
    except UsageError:
        raise
    except Exception as error:  # whatever a network of somebody's own does
        raise UsageError(
            f"data: the target fails on a batch of {_shapes(arguments)}: {type(error).__name__}: {first_line(error)}; "
            "change the data, or say with model.call how a batch becomes arguments"
        ) from error


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn whatever goes wrong with components in a target that runs without them into one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the target runs: what fails is how a site, a call or the importance function reads it
        raise UsageError(
            f"target: it runs as it is, but not with components in it: {type(error).__name__}: {first_line(error)}; "
            "look at kinds of sites and importance functions of your own, or choose other sites"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of a message, or the error's name."""
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]


def _shapes(arguments: Arguments) -> str:
    tensors = [leaf for leaf in tree_leaves((arguments.args, arguments.kwargs)) if isinstance(leaf, Tensor)]
    said = [f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors]
    return ", ".join(said) or "no tensors"
