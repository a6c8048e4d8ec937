"""How strongly pairs of components, one of the queries and one of the keys, make a head look somewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spd_lightning.analysis.attention_layers import AttentionLayer, turned
from spd_lightning.analysis.edit_outcomes import fires
from spd_lightning.errors import UsageError, check_fraction, check_list, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel

MOST = 1 << 27
"""Numbers in a table of all pairs of one layer's components at all offsets: 1 GiB, twice."""


@dataclass(frozen=True)
class QueryKey:
    """Pairs of components of one attention layer; all strengths are in units of the score before the softmax.

    Attributes:
        layer: where they are, and its heads.
        queries: numbers of the components that are important anywhere, ``[m]``.
        keys: the same, ``[n]``.
        offsets: how many positions the key stands before the query.
        coupling: ``(U_c^h · R U_c'^h)`` times the layer's scale, ``[heads, offsets, m, n]``: the score of a pair whose
            inner activations are both 1.
        static: the coupling times the lengths of both read vectors and the signs of both mean inner activations where
            the components are important, the same shape.
        mean: score of the pair on the data, mean over all pairs of positions at that offset, the same shape.
        rms: root of the mean of its square, the same shape.
        pairs: pairs of positions that were seen at each offset, ``[offsets]``.
    """

    layer: AttentionLayer
    queries: Tensor
    keys: Tensor
    offsets: tuple[int, ...]
    coupling: Tensor
    static: Tensor
    mean: Tensor
    rms: Tensor
    pairs: Tensor

    def strongest(self, head: int, count: int) -> list[tuple[int, int]]:
        """Pairs of a head by their largest root mean square over offsets.

        Args:
            head: its number.
            count: how many at most.

        Returns:
            Places in ``queries`` and ``keys``, the strongest first.
        """
        largest = self.rms[head].nan_to_num().amax(0)
        order = largest.flatten().argsort(descending=True)[:count].tolist()
        return [divmod(place, len(self.keys)) for place in order]


def couplings(queries: Tensor, keys: Tensor, layer: AttentionLayer, offsets: Sequence[int]) -> Tensor:
    """``(U_c^h · R_τ U_c'^h)`` times the layer's scale (VPD).

    ``R_τ`` turns a key that stands ``τ`` positions before the query to where rotary positions put it; it is the
    identity where positions are absolute. Heads that share keys, as in grouped-query attention, have the same ones.

    Args:
        queries: write vectors of components of the queries, ``[m, heads * d_head]``.
        keys: those of the keys, ``[n, key_heads * d_head]``.
        layer: how the layer's heads lie.
        offsets: ``τ``, how many positions the key stands before the query; below 0 behind it.

    Returns:
        ``[heads, offsets, m, n]``.
    """
    own = queries.reshape(len(queries), layer.heads, -1).transpose(0, 1)
    shared = keys.reshape(len(keys), layer.key_heads, -1).transpose(0, 1)
    shared = shared.repeat_interleave(layer.heads // layer.key_heads, 0)
    at_offsets = [own @ turned(shared, -offset, layer.frequencies).transpose(1, 2) for offset in offsets]
    return layer.scale * torch.stack(at_offsets, 1)


@torch.no_grad()
def pair_scores(model: ComponentModel, layer: AttentionLayer, batch: Any, head: int, query: int, key: int) -> Tensor:
    """What a pair of components adds to a head's scores: ``(x_t V_c)(U_c^h R U_c'^h)(V_c'ᵀ x_t')`` times the scale.

    Args:
        model: the decomposition.
        layer: the attention layer, see :func:`attention_layers`.
        batch: as the model's call takes it.
        head: its number.
        query: number of the query's component.
        key: number of the key's component.

    Returns:
        ``[rows, length, length]``; entry ``[..., t, s]`` is that of query position ``t`` and key position ``s``. No
        causal mask is applied.

    Raises:
        UsageError: for a head that does not exist.
    """
    layer.check_head(head)
    reads, writes = _inner(model, layer, batch)
    length = reads.shape[1]
    offsets = range(1 - length, length)
    own, other = model.components[layer.query].U[[query]], model.components[layer.key].U[[key]]
    by_offset = couplings(own, other, layer, offsets)[head, :, 0, 0]
    places = torch.arange(length)
    table = by_offset[places[:, None] - places + length - 1]
    return reads[..., query, None] * table * writes[:, None, :, key]


def _inner(model: ComponentModel, layer: AttentionLayer, batch: Any) -> tuple[Tensor, Tensor]:
    """Inner activations of queries and keys on clean inputs, ``[rows, length, C]``."""
    inputs = model.clean(batch).site_inputs
    for site in (layer.query, layer.key):
        if site not in inputs or inputs[site].dim() != 3:
            raise UsageError(f"query_key: {site!r} must be called once, with [rows, length, width]; leave it out")
    first, second = (model.components[site].inner(inputs[site]) for site in (layer.query, layer.key))
    if first.shape[:2] != second.shape[:2]:
        raise UsageError(f"query_key: {layer.name!r} has other positions for queries than for keys; leave it out")
    return first, second


class _Sums:
    """What is added up over batches, for one layer; components are narrowed to the living ones at the end."""

    def __init__(self, layer: AttentionLayer, model: ComponentModel, offsets: Sequence[int]) -> None:
        self.layer, self.offsets = layer, offsets
        counts = [model.components[site].n_components for site in (layer.query, layer.key)]
        if len(offsets) * counts[0] * counts[1] > MOST:
            raise UsageError(
                f"query_key: {counts[0]} by {counts[1]} components of {layer.name!r} at {len(offsets)} offsets are "
                f"more than {MOST} numbers; give fewer offsets, or leave the layer out"
            )
        self.products, self.squares = (torch.zeros(len(offsets), *counts, dtype=torch.double) for _ in range(2))
        self.pairs = torch.zeros(len(offsets), dtype=torch.long)
        self.signed = [torch.zeros(count, dtype=torch.double) for count in counts]
        self.alive = [torch.zeros(count, dtype=torch.bool) for count in counts]

    def add(self, model: ComponentModel, batch: Any, threshold: float) -> None:
        inner = [part.double().cpu() for part in _inner(model, self.layer, batch)]
        weights = model.call.arguments(batch).weights
        found = model.importance_of(batch)
        for side, site in enumerate((self.layer.query, self.layer.key)):
            important = fires(found[site], weights, threshold).cpu()
            self.alive[side] |= important.flatten(0, -2).any(0)
            self.signed[side] += (inner[side] * important).flatten(0, -2).sum(0)
        leading = inner[0].shape[:-1]
        counted = torch.ones(leading, dtype=torch.double)
        if weights.values is not None:
            counted = (weights.raw(leading) > 0).double().cpu()
        reads, writes = (part * counted[..., None] for part in inner)
        for number, offset in enumerate(self.offsets):
            kept = max(leading[1] - abs(offset), 0)
            ahead, behind = slice(leading[1] - kept, None), slice(kept)
            at, to = (ahead, behind) if offset >= 0 else (behind, ahead)
            one, other = reads[:, at].flatten(0, 1), writes[:, to].flatten(0, 1)
            self.products[number] += one.T @ other
            self.squares[number] += one.square().T @ other.square()
            self.pairs[number] += int((counted[:, at] * counted[:, to]).sum())


@torch.no_grad()
def query_key(
    model: ComponentModel,
    layers: Iterable[AttentionLayer],
    batches: Iterable[Any],
    offsets: Sequence[int] = range(8),
    threshold: float = ALIVE_THRESHOLD,
) -> list[QueryKey]:
    """Strengths of all pairs of components that are important anywhere, static and on data (VPD).

    Inner activations are those on the target's own activations, whatever the importances are. What biases and the
    parts that components leave unexplained add to scores belongs to no pair.

    Args:
        model: the decomposition.
        layers: see :func:`attention_layers`.
        batches: as the model's call takes them, on its device.
        offsets: how many positions the key stands before the query; below 0 behind it.
        threshold: importance above which a component counts.

    Returns:
        One for each layer, on the CPU in double precision. Where no pair of positions has an offset, NaN.

    Raises:
        UsageError: for a value outside its range, data without batches, or a layer that cannot be read or has too many
            pairs of components.
    """
    check_fraction("query_key: threshold", threshold)
    check_list("query_key: offsets", offsets)
    for offset in offsets:
        check_whole("query_key: offsets: each", offset)
    sums, seen = [_Sums(layer, model, offsets) for layer in layers], 0
    for batch in batches:
        for one in sums:
            one.add(model, batch, threshold)
        seen += 1
    if not seen:
        raise UsageError("query_key: the data holds no batches")
    return [_strengths(model, one) for one in sums]


def _strengths(model: ComponentModel, sums: _Sums) -> QueryKey:
    layer = sums.layer
    parts = [model.components[site] for site in (layer.query, layer.key)]
    queries, keys = (alive.nonzero()[:, 0] for alive in sums.alive)
    own, other = (part.U.double()[alive.to(part.U.device)] for part, alive in zip(parts, sums.alive, strict=True))
    coupling = couplings(own, other, layer, sums.offsets).cpu()
    lengths = [part.V.double().norm(dim=0).cpu() * sign.sign() for part, sign in zip(parts, sums.signed, strict=True)]
    pairs = sums.pairs[:, None, None]
    products, squares = (one[:, queries[:, None], keys] / pairs for one in (sums.products, sums.squares))
    return QueryKey(
        layer,
        queries,
        keys,
        tuple(sums.offsets),
        coupling,
        coupling * lengths[0][queries, None] * lengths[1][keys],
        coupling * products,
        coupling.abs() * squares.sqrt(),
        sums.pairs,
    )
