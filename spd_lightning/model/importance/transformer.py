"""A transformer that reads all sites at all positions (VPD, section on causal importance functions)."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from spd_lightning.errors import UsageError, check_flag, check_whole
from spd_lightning.model.importance.base import RELU_GAIN, Features, ImportanceFunction, SiteShape, draw
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.wrapping import site_of

EPS = 1e-5
"""Inside the RMS norms; smaller ones let small activations across 0."""
ROTARY_BASE = 10_000.0


class Block(nn.Module):
    """A pre-norm block: attention with rotary positions and without biases, then a GELU MLP four times as wide.

    Args:
        width: of the stream.
        heads: number of attention heads.
        causal: whether a position sees only those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, stream: Tensor, unseen: Tensor | None) -> Tensor:
        """``[rows, positions, width]`` to the same; ``unseen`` is added to attention scores."""
        stream = stream + self._attention(rms_norm(stream), unseen)
        mlp: Tensor = self.down(F.gelu(self.up(rms_norm(stream))))
        return stream + mlp

    def _attention(self, x: Tensor, bias: Tensor | None) -> Tensor:
        rows, positions, width = x.shape
        heads = self.qkv(x).reshape(rows, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = rotated(heads[0]), rotated(heads[1]), heads[2]
        if self.causal:
            future = torch.ones(positions, positions, dtype=torch.bool, device=x.device).triu(1)
            causal = torch.zeros(positions, positions, dtype=x.dtype, device=x.device).masked_fill(future, -torch.inf)
            bias = causal if bias is None else bias + causal
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, positions, width))
        return out


class SiteTransformer(ImportanceFunction):
    """One transformer over positions that reads the features of all sites and predicts all their logits (VPD).

    Each site's features are RMS-normed without a gain, projected, and summed: the same as projecting their
    concatenation. Blocks follow, then a linear map per site. ``V`` receives no gradient through it.

    Sites without positions of their own (a pooled head) are added at every position, and their logits are read from the
    mean over the positions that count. Where a site is called several times, each call's logits are read from the
    stream plus the call's own projected features (ours): what tells one call from another.

    Args:
        sites: shapes of the sites by name.
        width: of the stream, a multiple of twice the number of heads; 512 for a language model of two layers there.
        blocks: number of blocks.
        heads: number of attention heads.
        causal: whether a position sees only those before it.

    Raises:
        UsageError: for sizes that do not fit.
    """

    def __init__(
        self,
        sites: Mapping[str, SiteShape],
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        causal: bool = False,
    ) -> None:
        super().__init__(sites)
        for name, value in {"width": width, "blocks": blocks, "heads": heads}.items():
            check_whole(f"SiteTransformer: {name}", value, least=1)
        check_flag("SiteTransformer: causal", causal)
        if width % (2 * heads):
            raise UsageError(f"SiteTransformer: width must be a multiple of twice the heads ({heads}), got {width}")
        self.width, self.blocks, self.heads, self.causal = width, blocks, heads, causal
        self.read: SiteDict[nn.Linear] = SiteDict(
            {name: nn.Linear(shape.d_features, width, bias=False) for name, shape in sites.items()}
        )
        self.offset = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(Block(width, heads, causal) for _ in range(blocks))
        self.write: SiteDict[nn.Linear] = SiteDict(
            {name: nn.Linear(width, shape.n_components) for name, shape in sites.items()}
        )

    @torch.no_grad()
    def reset(self, generator: Callable[[str], Generator]) -> None:
        """Draw every matrix as wide as its inputs ask for, zero the biases."""
        total = sum(shape.d_features for shape in self.sites.values())
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            fan = total if name.startswith("read.") else layer.in_features
            gain = RELU_GAIN if name.endswith(".up") else 1.0
            draw(layer.weight, gain / fan**0.5, generator(name))
            if layer.bias is not None:
                layer.bias.zero_()
        self.offset.zero_()

    def forward(self, inner: Mapping[str, Tensor], features: Features) -> dict[str, Tensor]:
        """Logits of all calls from the features of all calls."""
        own = {call: self.read[site_of(call)](rms_norm(features[call])) for call in inner}
        leading = {call: read.shape[:-1] for call, read in own.items()}
        whole = max(leading.values(), key=len)
        summed = sum((_spread(call, read, whole) for call, read in own.items()), self.offset)
        stream = summed.expand(*whole, self.width).reshape(whole[0], -1, self.width)
        seen = _seen(features.counted, whole)
        unseen = None if seen is None else _unseen(seen, stream)
        for layer in self.layers:
            stream = layer(stream, unseen)
        stream = rms_norm(stream).reshape(*whole, self.width)
        repeated = {site_of(call) for call in inner if call not in self.sites}
        logits = {}
        for call, read in own.items():
            state = _gathered(stream, len(leading[call]), seen)
            state = state + read if site_of(call) in repeated else state
            logits[call] = self.write[site_of(call)](state)
        return logits


def _seen(counted: Tensor | None, whole: torch.Size) -> Tensor | None:
    """Which positions others may see, boolean ``[*whole]``; ``None`` for all."""
    if counted is None or counted.shape != whole[: counted.dim()]:
        return None
    seen = counted.reshape(*counted.shape, *[1] * (len(whole) - counted.dim())).expand(whole)
    anything = seen.flatten(1).any(1).reshape(-1, *[1] * (len(whole) - 1))
    return seen | ~anything  # a row of padding alone must not divide by 0


def _unseen(seen: Tensor, like: Tensor) -> Tensor:
    """What is added to attention scores so that no position sees padding, ``[rows, 1, 1, positions]``."""
    flat = seen.reshape(len(seen), -1)
    return torch.zeros_like(flat, dtype=like.dtype).masked_fill(~flat, -torch.inf)[:, None, None, :]


def rms_norm(x: Tensor) -> Tensor:
    """``x`` over the root of its mean square, along the last dimension, without a gain."""
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt()


def rotated(x: Tensor) -> Tensor:
    """Rotary positions: ``[..., positions, width]`` with pairs of coordinates turned by angles of the position."""
    half = x.shape[-1] // 2
    rates = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def _spread(call: str, read: Tensor, whole: torch.Size) -> Tensor:
    """What one call reads, at every position of the whole."""
    leading = read.shape[:-1]
    if leading != whole[: len(leading)]:
        raise UsageError(
            f"SiteTransformer: {call!r} has positions {list(leading)}, which are no part of {list(whole)}; use PerSite"
        )
    return read.reshape(*leading, *[1] * (len(whole) - len(leading)), read.shape[-1])


def _gathered(stream: Tensor, dims: int, seen: Tensor | None) -> Tensor:
    """The stream at every position of a call: itself, or its mean over the positions that the call does not have."""
    if stream.dim() == dims + 1:
        return stream
    if seen is None:
        return stream.flatten(dims, -2).mean(dims)
    shares = seen.flatten(dims).to(stream.dtype)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
    return (stream.flatten(dims, -2) * shares[..., None]).sum(dims)
