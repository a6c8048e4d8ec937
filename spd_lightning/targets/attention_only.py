"""A transformer of attention alone, small enough that its circuits can be known."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_finite, check_whole
from spd_lightning.functional import attention_pattern

POSITION_BASE = 10_000.0
"""Of the sinusoids' wavelengths, if nothing else is asked for."""


class Attention(nn.Module):
    """Causal attention whose queries and keys alone see positions.

    Args:
        width: of the stream.
        heads: number of heads.
        d_head: width of a head.
    """

    def __init__(self, width: int, heads: int, d_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, heads * d_head, bias=False)
        self.k = nn.Linear(width, heads * d_head, bias=False)
        self.v = nn.Linear(width, heads * d_head, bias=False)
        self.o = nn.Linear(heads * d_head, width, bias=False)

    def forward(self, stream: Tensor, positions: Tensor) -> Tensor:
        """What the layer adds to the stream.

        Args:
            stream: ``[rows, length, width]``.
            positions: ``[length, width]``, added to what queries and keys read.
        """
        return cast(Tensor, self.o(self.mixed(stream, positions)))

    def mixed(self, stream: Tensor, positions: Tensor) -> Tensor:
        """Values of all heads, mixed over positions, ``[rows, length, heads * d_head]``; arguments as of the layer."""
        placed = stream + positions
        pattern = attention_pattern(self.q(placed), self.k(placed), self.heads)
        values = self.v(stream).reshape(*stream.shape[:-1], self.heads, -1).transpose(1, 2)
        return cast(Tensor, (pattern @ values).transpose(1, 2).flatten(-2))


class AttentionOnly(nn.Module):
    """Token sequences of one length to the logits of what comes next, by attention layers alone.

    No MLPs, norms or biases. Positions are sinusoids, added to what queries and keys read and to nothing else, so that
    tokens travel through the stream as they are. The layers are ``layers.0.q``, ``.k``, ``.v``, ``.o`` and so on.

    Args:
        vocabulary: number of tokens.
        length: of every sequence.
        width: of the stream, even.
        n_layers: number of layers.
        heads: number of heads a layer.
        d_head: width of a head; ``null`` shares ``width`` out among them.
        position_gain: factor of the sinusoids. Tokens begin at a standard deviation of 1 an entry; where positions are
            larger, heads begin by looking at positions whatever stands there.
        position_base: ratio of the longest wavelength to the shortest. On short sequences long waves tell no two
            positions apart; a base of about the length does.

    Raises:
        UsageError: for sizes that do not fit.
    """

    positions: Tensor

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        n_layers: int = 2,
        heads: int = 1,
        d_head: int | None = None,
        position_gain: float = 1.0,
        position_base: float = POSITION_BASE,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "length": length, "width": width, "n_layers": n_layers, "heads": heads}
        for name, size in sizes.items():
            check_whole(f"target: {name}", size, least=1)
        if d_head is not None:
            check_whole("target: d_head", d_head, least=1)
        elif width % heads:
            raise UsageError(f"target: width must be a multiple of heads, {heads}, got {width}; or give d_head")
        if width % 2:
            raise UsageError(f"target: width must be even, got {width}; sines and cosines come in pairs")
        for name, value in {"position_gain": position_gain, "position_base": position_base}.items():
            check_finite(f"target: {name}", value)
            if value <= 0:
                raise UsageError(f"target: {name} must be above 0, got {value}")
        self.position_gain, self.position_base = position_gain, position_base
        self.vocabulary, self.length, self.width = vocabulary, length, width
        self.n_layers, self.heads, self.d_head = n_layers, heads, d_head
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Attention(width, heads, d_head or width // heads) for _ in range(n_layers))
        self.unembed = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("positions", position_gain * sinusoids(length, width, position_base))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits after the last position.

        Args:
            tokens: ``[rows, length]``.

        Returns:
            ``[rows, vocabulary]``.
        """
        if tokens.shape[-1] != self.length:
            raise UsageError(f"target: sequences must have {self.length} tokens, got {tokens.shape[-1]}")
        stream = self.embed(tokens)
        for layer in self.layers:
            stream = stream + layer(stream, self.positions)
        return cast(Tensor, self.unembed(stream[:, -1]))


def sinusoids(length: int, width: int, base: float = POSITION_BASE) -> Tensor:
    """Sines and cosines of the position at wavelengths in geometric progression, ``[length, width]``."""
    rates = torch.exp(-math.log(base) * torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
