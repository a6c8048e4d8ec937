"""Attention heads: which components make them up, and at which positions they act."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from spd_lightning.model import Components
from spd_lightning.targets.attention_only import Attention, AttentionOnly

PARTS = ("q", "k", "v", "o")
"""Names of an attention layer's matrices: queries, keys, values, output."""
MOST = 0.5
"""Share of a component's squared length from which it belongs to a head."""


@dataclass(frozen=True)
class HeadFlow:
    """From which positions a head can reach the output, judged by attention alone.

    Attributes:
        writes: how much of what each position holds after the layer reaches the output position, ``[rows, length]``;
            the positions at which queries and the output matrix act.
        reads: the same of what the head takes up, ``[rows, heads, length]``; where keys and values act.
    """

    writes: Tensor
    reads: Tensor


def attention_flow(patterns: Sequence[Tensor]) -> list[HeadFlow]:
    """Follow attention back from the last position, through every layer (ours; the stream passes on unchanged).

    Args:
        patterns: of every layer, ``[rows, heads, length, length]``; entry ``[..., t, s]`` is how far ``t`` looks at
            ``s``.

    Returns:
        One for each layer.
    """
    last = torch.zeros_like(patterns[-1][:, 0, 0])
    last[:, -1] = 1
    flows, reached = [], last
    for pattern in reversed(patterns):
        reads = torch.einsum("rt,rhts->rhs", reached, pattern)
        flows.append(HeadFlow(reached, reads))
        reached = (reached + reads.sum(1)).clamp(max=1)
    return flows[::-1]


@contextmanager
def silent_head(target: AttentionOnly, layer: int, head: int) -> Iterator[None]:
    """Let a head write nothing for a while.

    Args:
        target: whose head.
        layer: number of the layer.
        head: number of the head in it.
    """

    def silenced(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        mixed = arguments[0].reshape(*arguments[0].shape[:-1], target.heads, -1).clone()
        mixed[..., head, :] = 0
        return (mixed.flatten(-2),)

    handle = target.get_submodule(f"layers.{layer}.o").register_forward_pre_hook(silenced)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def head_logits(target: AttentionOnly, tokens: Tensor) -> Tensor:
    """What every head adds to the logits by itself, at the last position (direct logit attribution).

    With the unembedded last token they add up to the logits. What later layers make of a head is not its own.

    Args:
        target: the network.
        tokens: ``[rows, length]``.

    Returns:
        ``[rows, layers, heads, vocabulary]``.
    """
    stream, added = target.embed(tokens), []
    for module in target.layers:
        layer = cast(Attention, module)
        mixed = layer.mixed(stream, target.positions)
        stream = stream + layer.o(mixed)
        written = layer.o.weight.reshape(target.width, target.heads, -1)
        by_head = mixed[:, -1].reshape(len(tokens), target.heads, -1)
        added.append(target.unembed(torch.einsum("rhd,whd->rhw", by_head, written)))
    return torch.stack(added, dim=1)


def components_of_head(
    components: Mapping[str, Components], alive: Mapping[str, Tensor], layer: str, head: int, heads: int
) -> dict[str, list[int]]:
    """Live components with most of their length in one head (ours).

    A component of queries, keys or values lies in the head's rows by what it writes, one of the output matrix by what
    it reads.

    Args:
        components: of all sites.
        alive: which of them are alive, boolean ``[C]`` by site.
        layer: path of the attention layer; its sites are ``LAYER.q`` and so on, or some rows of these.
        head: its number.
        heads: number of heads of the layer.

    Returns:
        Numbers of components by site.
    """
    found = {}
    for name, parts in components.items():
        path, part = name.partition("[")[0].rpartition(".")[::2]
        if path == layer and part in PARTS:
            vectors = parts.V.detach().T if part == "o" else _in_all_rows(parts)
            shares = vectors.reshape(len(vectors), heads, -1).square().sum(-1)
            shares = shares / shares.sum(1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
            belongs = (shares[:, head] >= MOST).cpu() & alive[name].cpu()
            found[name] = torch.nonzero(belongs).flatten().tolist()
    return found


def _in_all_rows(parts: Components) -> Tensor:
    """What components write, among the rows of the whole matrix where their site has some of them only."""
    written, rows = parts.U.detach(), parts.site.rows
    if rows is None:
        return written
    whole = written.new_zeros(len(written), len(parts.site.matrix()))
    whole[:, [index for run in rows for index in run]] = written
    return whole
