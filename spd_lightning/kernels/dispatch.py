"""Which implementation a tensor gets."""

import ctypes

import torch
from torch import Tensor

from spd_lightning.kernels.build import build


def library_for(tensor: Tensor, compiled: bool) -> ctypes.CDLL | None:
    """The compiled kernels, if they are wanted, were built, and can take this tensor (float32 on the CPU)."""
    if not compiled or tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return None
    return build().library


def rows(tensor: Tensor) -> Tensor:
    """The tensor as a dense matrix ``[rows, last dimension]``."""
    if tensor.dim() == 2 and tensor.is_contiguous():
        return tensor
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers lie, null for ``None``."""
    return None if tensor is None else tensor.data_ptr()
