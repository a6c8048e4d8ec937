"""The toy model of superposition: more features than dimensions."""

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_flag, check_whole
from spd_lightning.targets.mechanisms import Mechanisms

ALIVE_COLUMN_RATIO = 0.1
"""A feature is represented if its column is longer than this fraction of the longest column."""


class ToyModelOfSuperposition(nn.Module):
    """``relu(W2 H ... W1 x + b)``: features squeezed through fewer dimensions (SPD paper, section 3.1).

    Args:
        n_features: number of features, at least 1.
        n_hidden: width of the bottleneck, at least 1.
        n_identity_layers: fixed identity layers in the bottleneck (``hidden_layers.0``, ...); 1 in the paper's
            "+ID" models.
        tied: whether ``linear2.weight`` is the transpose of ``linear1.weight``. They share storage, so that an
            optimiser which lists both updates the numbers twice a step, as in the published code.
        zero_bias: start ``linear2.bias`` at 0 (the paper's 40-10 models) instead of the framework's default (5-2).

    Raises:
        UsageError: for sizes below 1, or a negative number of identity layers.
    """

    def __init__(
        self, n_features: int, n_hidden: int, n_identity_layers: int = 0, tied: bool = True, zero_bias: bool = False
    ) -> None:
        super().__init__()
        sizes = {"n_features": n_features, "n_hidden": n_hidden, "n_identity_layers": n_identity_layers}
        for name, size in sizes.items():
            check_whole(name, size)
        for name, flag in {"tied": tied, "zero_bias": zero_bias}.items():
            check_flag(name, flag)
        if n_features < 1 or n_hidden < 1 or n_identity_layers < 0:
            raise UsageError(
                "n_features and n_hidden must be at least 1 and n_identity_layers at least 0, "
                f"got {n_features}, {n_hidden} and {n_identity_layers}"
            )
        self.n_features, self.n_hidden, self.n_identity_layers = n_features, n_hidden, n_identity_layers
        self.tied, self.zero_bias = tied, zero_bias
        self.linear1 = nn.Linear(n_features, n_hidden, bias=False)
        self.hidden_layers = nn.ModuleList(nn.Linear(n_hidden, n_hidden, bias=False) for _ in range(n_identity_layers))
        self.linear2 = nn.Linear(n_hidden, n_features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights from torch's global generator; identity layers stay fixed and frozen."""
        self.linear1.reset_parameters()
        self.linear2.reset_parameters()
        for layer in self.hidden_layers:
            nn.init.eye_(cast(nn.Linear, layer).weight).requires_grad_(False)
        if self.zero_bias:
            nn.init.zeros_(self.linear2.bias)
        self._tie()

    def _tie(self) -> None:
        if self.tied:
            self.linear2.weight.data = self.linear1.weight.data.T

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._tie()  # as moving does, copying and unpickling give every parameter a storage of its own

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._tie()  # moving or casting gives every parameter a storage of its own
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct features.

        Args:
            x: ``[..., n_features]``.

        Returns:
            ``[..., n_features]``.
        """
        hidden = self.linear1(x)
        for layer in self.hidden_layers:
            hidden = layer(hidden)
        return cast(Tensor, self.linear2(hidden).relu())

    @staticmethod
    def declared_size(n_features: int, n_hidden: int, n_identity_layers: int = 0, **_: Any) -> int:
        """About how many numbers a network of these arguments holds; a module costs a thousand times what one does."""
        return 2 * n_features * n_hidden + n_identity_layers * (n_hidden**2 + 1000)

    @staticmethod
    def label(x: Tensor) -> Tensor:
        """What the network is trained to output: ``|x|``."""
        return x.abs()

    @torch.no_grad()
    def alive_features(self) -> list[int]:
        """Features that the trained weights represent, by the length of their column in ``linear1``."""
        lengths = self.linear1.weight.norm(dim=0)
        return torch.nonzero(lengths > ALIVE_COLUMN_RATIO * lengths.max()).flatten().tolist()

    @torch.no_grad()
    def flaws(self, probe: float = 0.75, tolerance: float = 0.3) -> list[str]:
        """What the paper's acceptance check finds wrong with the trained weights.

        Args:
            probe: magnitude of the one-hot inputs.
            tolerance: how far the output may be from the probe, at its own index. The published code calls
                a feature within 0.1 well preserved, one beyond 0.3 poorly; 40 features in 10 dimensions lie between.

        Returns:
            One sentence per feature that does not come back.
        """
        weight = self.linear1.weight
        outputs = self(probe * torch.eye(self.n_features, dtype=weight.dtype, device=weight.device)).diagonal()
        return [
            f"feature {index}: a one-hot input of {probe} comes back as {value:.3f}"
            for index, value in enumerate(outputs.tolist())
            if not abs(value - probe) <= tolerance
        ]

    def known_mechanisms(self) -> dict[str, Mechanisms]:
        """One component per represented feature in ``linear1`` and ``linear2``; dense identity layers."""
        alive = self.alive_features()
        mechanisms = {"linear1": Mechanisms("identity", len(alive), alive, "input")}
        for index in range(self.n_identity_layers):
            mechanisms[f"hidden_layers.{index}"] = Mechanisms("dense", self.n_hidden, alive)
        mechanisms["linear2"] = Mechanisms("identity", len(alive), alive, "output")
        return mechanisms
