"""What mixed precision leaves in full."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which products on a tensor's device are not rounded to half types."""
    return torch.autocast(like.device.type, enabled=False)


def ambient_precision(like: Tensor) -> Callable[[], torch.autocast]:
    """What is in force now for products on a tensor's device, to come back to later.

    Returns:
        Makes contexts in which it is in force.
    """
    kind = like.device.type
    return partial(torch.autocast, kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))


def single(tensor: Tensor) -> Tensor:
    """The tensor in at least single precision: half types become ``float32``, others stay."""
    return tensor.to(single_type(tensor.dtype))


def single_type(dtype: torch.dtype) -> torch.dtype:
    """The type in at least single precision: ``float32`` for half types, else the same."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
