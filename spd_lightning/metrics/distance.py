"""Distance between a masked network's output and the target's, over a whole epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

from spd_lightning.functional import distance
from spd_lightning.functional.distances import DistanceKind


class MeanDistance(Metric):
    r"""Mean distance over all examples seen, whatever the sizes of the batches.

    .. math::
        \text{mse: } \frac{1}{N d} \sum_{n, i} (\hat y_{ni} - y_{ni})^2 \qquad
        \text{kl: } \frac{1}{N} \sum_{n, i} p_{ni} \log \frac{p_{ni}}{q_{ni}}

    with ``N`` examples and positions; ``p`` and ``q`` are the softmax of target and prediction.

    Args:
        kind: ``"mse"``, averaged over examples and outputs, or ``"kl"``, summed over outputs, averaged over examples.

    Raises:
        ValueError: if ``kind`` is unknown, or prediction and target differ in shape.

    Example:
        >>> from torch import tensor
        >>> mse = MeanDistance("mse")
        >>> mse.update(tensor([[1.0, 2.0]]), tensor([[1.0, 0.0]]))
        >>> mse.update(tensor([[0.0, 0.0], [0.0, 0.0]]), tensor([[1.0, 1.0], [0.0, 0.0]]))
        >>> mse.compute()
        tensor(1.)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    weight: Tensor

    def __init__(self, kind: DistanceKind = "mse") -> None:
        super().__init__()
        if kind not in ("mse", "kl"):
            raise ValueError(f"kind must be 'mse' or 'kl', got {kind!r}")
        self.kind = kind
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Compare one batch.

        Args:
            prediction: the masked network's output ``[..., d]``; logits for ``"kl"``.
            target: the target's output ``[..., d]``.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction and target must have the same shape, got {list(prediction.shape)} and {list(target.shape)}"
            )
        # the function averages over these; undone here, so that batches of any size weigh as they should
        weight = target.numel() if self.kind == "mse" else target[..., 0].numel()
        self.total = self.total + distance(self.kind, prediction, target).detach() * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean, a scalar; in nats for ``"kl"``."""
        return self.total / self.weight
