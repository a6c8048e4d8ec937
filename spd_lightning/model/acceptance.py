"""What goes wrong in a network of somebody's own, without components and with them, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.utils._pytree import tree_leaves

from spd_lightning.errors import UsageError
from spd_lightning.model.call import Arguments, TargetCall

LONGEST = 160


@contextmanager
def taking(call: TargetCall, batch: object) -> Iterator[None]:
    """Turn what a target itself does to a batch that it cannot take into one line.

    Args:
        call: how the batch becomes arguments.
        batch: as the call takes it.

    Raises:
        UsageError: with the shapes of the arguments and what the target said of them.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # whatever a network of somebody's own does
        raise UsageError(
            f"data: the target fails on a batch of {_shapes(call.arguments(batch))}: {type(error).__name__}: "
            f"{first_line(error)}; change the data, or say with call how a batch becomes arguments"
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
