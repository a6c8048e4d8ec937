"""Attention layers whose scores are products of queries and keys: where heads lie, and how positions turn them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.model import ComponentModel
from spd_lightning.targets.attention_only import Attention
from spd_lightning.targets.unfused import UnfusedAttention

ROTARY = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
"""Classes of ``transformers`` that turn the halves of a head against each other, and do nothing else to a score."""
ABSOLUTE = ("GPT2Attention",)
STATIC_ROPES = ("default", "linear", "llama3")
"""Kinds of rotary positions whose frequencies do not depend on the length."""
SERVED = f"AttentionOnly, Unfused attention, and of transformers {', '.join((*ABSOLUTE, *ROTARY))}"


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer both of whose sites are decomposed.

    Attributes:
        name: path of its module.
        query: the site of its queries.
        key: the site of its keys.
        heads: number of heads.
        key_heads: number of heads of the keys; fewer where several heads share keys.
        scale: what scores are multiplied by.
        frequencies: of rotary positions, in radians per position, ``[d_head / 2]``: dimension ``i`` of a head turns
            with dimension ``i + d_head / 2``. ``None`` where positions are absolute.
    """

    name: str
    query: str
    key: str
    heads: int
    key_heads: int
    scale: float
    frequencies: Tensor | None = None

    def check_head(self, head: int) -> None:
        """Refuse a head that does not exist.

        Raises:
            UsageError: naming those that do.
        """
        check_whole("query_key: head", head, most=None)
        if not 0 <= head < self.heads:
            raise UsageError(f"query_key: there is no head {head} in {self.name!r}; it has 0 to {self.heads - 1}")


def turned(vectors: Tensor, positions: int, frequencies: Tensor | None) -> Tensor:
    """Vectors of a head as rotary positions turn them (RoFormer, by halves as in Llama); as they are without any.

    Args:
        vectors: ``[..., d_head]``.
        positions: by how many.
        frequencies: see :class:`AttentionLayer`.
    """
    if frequencies is None:
        return vectors
    angles = (positions * frequencies).to(vectors)
    first, second = vectors.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention_layers(model: ComponentModel) -> list[AttentionLayer]:
    """Attention layers whose queries and keys are both taken apart, in the order of the target's modules.

    Served are those of :class:`spd_lightning.targets.AttentionOnly` and of GPT-2, whose positions are absolute; those
    of :class:`spd_lightning.Unfused`, without rotary positions; and of Llama, Mistral and Qwen2, whose rotary positions
    turn the halves of a head against each other.

    Raises:
        UsageError: if there is none, or the rotary positions depend on the length.
    """
    if any(parts.rank is not None for parts in model.components.values()):
        raise UsageError("query_key: needs components of rank one, not those of the older method")
    found = list(_layers(model))
    if not found:
        raise UsageError(f"query_key: no attention layer has sites for both queries and keys; it reads {SERVED}")
    return found


def _layers(model: ComponentModel) -> Iterator[AttentionLayer]:
    for name, module in model.target.named_modules():
        for query, key in (("q", "k"), ("c_attn[q]", "c_attn[k]"), ("q_proj", "k_proj")):
            sites = f"{name}.{query}", f"{name}.{key}"
            if all(site in model.components for site in sites):
                yield _layer(model, name, module, sites)


def _layer(model: ComponentModel, name: str, module: Any, sites: tuple[str, str]) -> AttentionLayer:
    kind, width = type(module).__name__, model.components[sites[0]].site.d_out
    if kind in ROTARY:
        config = module.config
        heads, frequencies = config.num_attention_heads, _frequencies(model.target, name)
        return AttentionLayer(name, *sites, heads, config.num_key_value_heads, float(module.scaling), frequencies)
    if kind in ABSOLUTE:
        return AttentionLayer(name, *sites, module.num_heads, module.num_heads, float(module.scaling))
    if isinstance(module, Attention | UnfusedAttention):
        heads = module.heads if isinstance(module, Attention) else module.num_heads
        return AttentionLayer(name, *sites, heads, heads, (width // heads) ** -0.5)
    raise UsageError(f"query_key: how a {kind} makes scores of queries and keys is not known here; it reads {SERVED}")


def _frequencies(target: nn.Module, name: str) -> Tensor:
    """Frequencies of the rotary positions of the whole network."""
    found: list[Any] = [module for module in target.modules() if isinstance(getattr(module, "inv_freq", None), Tensor)]
    if len(found) != 1 or getattr(found[0], "rope_type", None) not in STATIC_ROPES or found[0].attention_scaling != 1:
        kinds = ", ".join(str(getattr(module, "rope_type", "unknown")) for module in found) or "none"
        raise UsageError(
            f"query_key: {name!r} has rotary positions of kind {kinds}; it reads {', '.join(STATIC_ROPES)}, one for all"
        )
    frequencies: Tensor = found[0].inv_freq
    return frequencies
