"""Telling one set of weights from another."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def fingerprint(network: nn.Module) -> str:
    """Hash of a network's weights: names, shapes, types and bytes.

    Args:
        network: any module.

    Returns:
        32 hexadecimal digits.
    """
    return state_fingerprint(network.state_dict())


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash of tensors by name, the same as :func:`fingerprint` of a network that holds them.

    Args:
        state: tensors by name.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
