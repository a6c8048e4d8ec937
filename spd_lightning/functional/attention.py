"""Attention patterns from queries and keys."""

import math

import torch
from torch import Tensor


def attention_pattern(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Causal softmax attention, scaled by the root of a head's width.

    Args:
        queries: ``[rows, length, heads * d_head]``.
        keys: the same shape.
        heads: number of heads.

    Returns:
        ``[rows, heads, length, length]``; entry ``[..., t, s]`` is how far position ``t`` looks at position ``s``.
    """
    q, k = (part.reshape(*part.shape[:-1], heads, -1).transpose(1, 2) for part in (queries, keys))
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    pattern: Tensor = scores.masked_fill(future, -torch.inf).softmax(-1)
    return pattern
