"""What the examples and positions of a batch weigh in means, for tensors of any leading dimensions."""

from collections.abc import Callable

import torch
from torch import Tensor

from spd_lightning.functional.losses import mean_over_examples


class Weights:
    """Weights of a batch's positions, handed out to fit what a mean is taken over.

    Sites of one network may have different leading dimensions: a pooled head has ``[batch]``, token layers
    ``[batch, position]``, convolutions ``[batch, height, width]``. Where a tensor has more of them than the weights, a
    weight is divided evenly among them; where it has fewer, a row counts if any of its positions does.

    Args:
        values: ``[...]``, at least 0; ``None`` where all positions count alike.
        normalised: whether the values sum to 1 as they are.
        total: what weights are divided by, from their sum here; ``None`` for the sum itself. Asked once for each
            number of leading dimensions.
    """

    def __init__(
        self, values: Tensor | None = None, normalised: bool = False, total: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.values, self.normalised, self._total = values, normalised, total
        self._totals: dict[int, float] = {}
        self._made: dict[torch.Size, Tensor] = {}

    def of(self, leading: torch.Size) -> Tensor | None:
        """Weights for leading dimensions.

        Args:
            leading: all dimensions but the last.

        Returns:
            Weights of that shape, with sum 1 (over processes that share a batch: a mean of 1 over their sums), or
            ``None`` where a plain mean is meant.

        Raises:
            ValueError: if they do not fit.
        """
        if self.values is None:
            return None
        if leading not in self._made:
            self._made[leading] = self._scaled(self.raw(leading))
        return self._made[leading]

    def _scaled(self, raw: Tensor) -> Tensor:
        if self._total is None:
            return raw if self.normalised else raw / raw.sum()
        if raw.dim() not in self._totals:
            self._totals[raw.dim()] = self._total(raw.sum().double()).item()
        return raw * (1 / self._totals[raw.dim()])

    def raw(self, leading: torch.Size) -> Tensor:
        """The weights for leading dimensions, before they are scaled."""
        assert self.values is not None
        exact = torch.float32 if self.values.device.type == "mps" else torch.float64  # rounded where they are used
        values = self.values if self.values.is_floating_point() else self.values.to(exact)
        shared = min(len(leading), values.dim())
        if leading[:shared] != values.shape[:shared]:
            if leading.numel() != values.numel():
                raise ValueError(f"weights of shape {list(values.shape)} do not fit positions of shape {list(leading)}")
            return values.reshape(leading)
        if len(leading) < values.dim():
            return values.flatten(len(leading)).amax(-1)
        rest = leading[shared:]
        return values.reshape(*values.shape, *[1] * len(rest)).expand(leading) / max(rest.numel(), 1)

    def mass(self, leading: torch.Size) -> float:
        """What the positions here weigh beside those of other batches, or of other processes.

        Args:
            leading: dimensions that a mean was taken over.

        Returns:
            Their number where all count alike, the sum of their weights where these were divided by it, and 1 where
            the weights of all processes were scaled together.
        """
        if self.values is None:
            return float(leading.numel())
        return 1.0 if self.normalised or self._total is not None else self.raw(leading).sum().item()

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean of ``[...]``, a scalar."""
        return mean_over_examples(values, self.of(values.shape))

    def gathered(self, total: Callable[[Tensor], Tensor]) -> "Weights":
        """The same weights where several processes share a batch; all of them must ask for them alike.

        Args:
            total: the mean over processes of a number that each of them has.

        Returns:
            Weights whose sums have a mean of 1 over processes.
        """
        return Weights(self.values, total=total)

    @property
    def counted(self) -> Tensor | None:
        """Which positions count at all, boolean; ``None`` for all."""
        return None if self.values is None else self.values > 0


EVEN = Weights()
"""All positions count alike."""
