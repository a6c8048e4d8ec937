"""Equal forms of fused modules of the framework, in which every matrix is a layer of its own that is called."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.errors import UsageError

CHECKED_POSITIONS, TOLERANCE = 4, 1e-5
FUSED = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")


class UnfusedAttention(nn.Module):
    """``nn.MultiheadAttention`` with a linear layer each for queries, keys, values and output.

    Args:
        fused: the module to take the place of.

    Attributes:
        q, k, v, out_proj: the layers.

    Raises:
        UsageError: for options that it does not have, or if it is not equal to the module.
    """

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        if fused.bias_k is not None or fused.add_zero_attn:
            raise UsageError("unfused: attention with add_bias_kv or add_zero_attn has no unfused form here")
        self.embed_dim, self.num_heads, self.dropout = fused.embed_dim, fused.num_heads, fused.dropout
        self.batch_first = fused.batch_first
        like = fused.out_proj.weight
        bias = fused.in_proj_bias is not None
        widths = {"q": fused.embed_dim, "k": fused.kdim, "v": fused.vdim}
        for name, width in widths.items():
            layer = nn.Linear(width, fused.embed_dim, bias=bias, dtype=like.dtype, device=like.device)
            setattr(self, name, layer)
        self.out_proj = nn.Linear(fused.embed_dim, fused.embed_dim, bias=fused.out_proj.bias is not None).to(like)
        self.load_state_dict(split_state(fused.state_dict()))
        self.train(fused.training)
        _check_equal(fused, self)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See ``nn.MultiheadAttention``."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(layer(x)) for layer, x in ((self.q, query), (self.k, key), (self.v, value)))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        for mask in self._masks(attn_mask, key_padding_mask, q, is_causal):
            scores = scores + mask
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        output = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        if not batched:
            output, weights = output.squeeze(0), weights.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, weights.mean(-3) if average_attn_weights else weights

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _masks(self, attn_mask: Tensor | None, padding: Tensor | None, like: Tensor, is_causal: bool) -> list[Tensor]:
        """What is added to scores ``[rows, heads, queries, keys]``."""
        masks = []
        if attn_mask is not None:
            added = _added(attn_mask, like)
            masks.append(added.reshape(-1, self.num_heads, *added.shape[1:]) if added.dim() == 3 else added)
        elif is_causal:
            raise UsageError("unfused: is_causal needs attn_mask, as nn.MultiheadAttention does")
        if padding is not None:
            masks.append(_added(padding, like)[:, None, None, :])
        return masks


class UnfusedEncoderLayer(nn.Module):
    """``nn.TransformerEncoderLayer`` without its fast path, which calls no module.

    Args:
        fused: the layer to take the place of; its parts are used as they are.
    """

    linear1: nn.Linear
    linear2: nn.Linear
    norm1: nn.Module
    norm2: nn.Module
    dropout: nn.Module
    dropout1: nn.Module
    dropout2: nn.Module

    def __init__(self, fused: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.self_attn = UnfusedAttention(fused.self_attn)
        for name, part in fused.named_children():
            if name != "self_attn":
                self.add_module(name, part)
        self.activation, self.norm_first = fused.activation, fused.norm_first
        self.train(fused.training)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """See ``nn.TransformerEncoderLayer``."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            src = src + self._attend(self.norm1(src), *masks)
            return src + self._feed_forward(self.norm2(src))
        src = self.norm1(src + self._attend(src, *masks))
        normed: Tensor = self.norm2(src + self._feed_forward(src))
        return normed

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        attended = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)[0]
        dropped: Tensor = self.dropout1(attended)
        return dropped

    def _feed_forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return dropped


class Unfused(nn.Module):
    """A network whose fused modules are replaced by equal ones that call a layer for every matrix.

    Its modules are found under ``network.``. Weights of the original can be loaded into it.

    Args:
        network: with any ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` in it; a copy of it is changed.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = unfused(network)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returns."""
        return self.network(*args, **kwargs)

    def translated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the original network under this one's names; its own stay as they are."""
        own = {name.removeprefix("network."): tensor for name, tensor in state.items()}
        return {f"network.{name}": tensor for name, tensor in split_state(own).items()}

    def original_state(self) -> dict[str, Tensor]:
        """This one's weights under the original network's names, the opposite of :meth:`translated`."""
        return fused_state(self.network)


def unfused(network: nn.Module) -> nn.Module:
    """A copy of a network in which fused modules are replaced by equal unfused ones, each checked against its original.

    Args:
        network: any; one without fused modules is copied as it is.

    Returns:
        The copy.

    Raises:
        UsageError: if a module has no equal form here.
    """
    return _replaced(copy.deepcopy(network))


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.TransformerEncoderLayer):
        return UnfusedEncoderLayer(module)
    if isinstance(module, nn.MultiheadAttention):
        return UnfusedAttention(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


def split_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of fused attention under the names of unfused ones; everything else as it is."""
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix, _, last = name.rpartition(".")
        prefix = f"{prefix}." if prefix else ""
        if last in ("in_proj_weight", "in_proj_bias"):
            kind = last.removeprefix("in_proj_")
            split |= {f"{prefix}{part}.{kind}": rows for part, rows in zip("qkv", tensor.chunk(3), strict=True)}
        elif last in FUSED:
            split[f"{prefix}{last[0]}.weight"] = tensor
        else:
            split[name] = tensor
    return split


def fused_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights, those of unfused attention under the names of fused ones; the opposite of ``split_state``.

    Args:
        network: any; one without unfused modules has its own state.
    """
    state = network.state_dict()
    for path, module in network.named_modules():
        if isinstance(module, UnfusedAttention):
            prefix = f"{path}." if path else ""
            kinds = ("weight",) if module.q.bias is None else ("weight", "bias")
            parts = {kind: [state.pop(f"{prefix}{part}.{kind}") for part in "qkv"] for kind in kinds}
            state |= {f"{prefix}{name}": tensor for name, tensor in _joined(parts, module.embed_dim).items()}
    return state


def _joined(parts: Mapping[str, list[Tensor]], width: int) -> dict[str, Tensor]:
    """Weights and biases of queries, keys and values as ``nn.MultiheadAttention`` keeps them."""
    joined = {"in_proj_bias": torch.cat(parts["bias"])} if "bias" in parts else {}
    if all(weight.shape[1] == width for weight in parts["weight"]):
        return joined | {"in_proj_weight": torch.cat(parts["weight"])}
    return joined | {f"{part}_proj_weight": weight for part, weight in zip("qkv", parts["weight"], strict=True)}


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers that are added: true means not seen."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -torch.inf)


@torch.no_grad()
def _check_equal(fused: nn.MultiheadAttention, plain: UnfusedAttention) -> None:
    """Refuse an unfused form that puts out something else."""
    generator = torch.Generator().manual_seed(0)
    like = fused.out_proj.weight
    shapes = [(2, CHECKED_POSITIONS, width) for width in (fused.embed_dim, fused.kdim, fused.vdim)]
    inputs = [torch.randn(shape, generator=generator).to(like) for shape in shapes]
    inputs = inputs if fused.batch_first else [x.transpose(0, 1) for x in inputs]
    before = fused.training
    wanted = fused.eval()(*inputs, need_weights=False)[0]
    fused.train(before)
    found = plain.eval()(*inputs, need_weights=False)[0]
    plain.train(before)
    tolerance = TOLERANCE if like.dtype in (torch.float32, torch.float64) else 5e-2
    if not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        raise UsageError("unfused: attention puts out something else than its original; please report it")
