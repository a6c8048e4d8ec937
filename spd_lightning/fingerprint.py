"""Telling one set of weights from another."""

import hashlib

import torch
from torch import nn


def fingerprint(network: nn.Module) -> str:
    """Hash of a network's weights: names, shapes, types and bytes.

    Args:
        network: any module.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
