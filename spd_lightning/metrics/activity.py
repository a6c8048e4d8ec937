"""How many components are in use, and how much."""

import torch
from torch import Tensor
from torchmetrics import Metric

from spd_lightning.functional import ALIVE_THRESHOLD, active_counts


class ActiveComponents(Metric):
    r"""L0: mean number of active components per example and position.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \lvert \{c : g_{nc} > \text{threshold}\} \rvert

    The threshold is ours to state with every number: the SPD paper's L0 uses 0.01, the later library 0.1 for toys.

    Args:
        threshold: a component is active where its importance exceeds this.

    Example:
        >>> from torch import tensor
        >>> l0 = ActiveComponents(threshold=0.1)
        >>> l0.update(tensor([[0.9, 0.0, 0.0], [0.9, 0.5, 0.0]]))
        >>> l0.update(tensor([[0.0, 0.0, 0.1]]))
        >>> l0.compute()
        tensor(1.)
    """

    full_state_update = False
    is_differentiable = False
    active: Tensor
    examples: Tensor

    def __init__(self, threshold: float = ALIVE_THRESHOLD) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("active", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("examples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, importance: Tensor) -> None:
        """Count one batch.

        Args:
            importance: lower-leaky importances ``[..., C]``; every leading dimension counts as examples.
        """
        counts = active_counts(importance, self.threshold)
        self.active += counts.sum()
        self.examples += counts.numel()

    def compute(self) -> Tensor:
        """The mean over all examples and positions seen, a scalar."""
        return self.active / self.examples


class AliveComponents(Metric):
    r"""Number of components that are active on any example or position seen.

    .. math:: \lvert \{c : \max_n g_{nc} > \text{threshold}\} \rvert

    It is no count of mechanisms: components that always act together are one (SPD paper, rank-50 output layer).

    Args:
        n_components: ``C``.
        threshold: a component is active where its importance exceeds this.

    Raises:
        ValueError: if ``n_components`` is below 1, or an update has another number of components.

    Example:
        >>> from torch import tensor
        >>> alive = AliveComponents(n_components=3, threshold=0.1)
        >>> alive.update(tensor([[0.9, 0.0, 0.0], [0.9, 0.0, 0.0]]))
        >>> alive.update(tensor([[0.0, 0.0, 0.2]]))
        >>> alive.compute()
        tensor(2)
        >>> alive.mask()
        tensor([ True, False,  True])
        >>> alive.density()
        tensor([0.6667, 0.0000, 0.3333])
    """

    full_state_update = False
    is_differentiable = False
    firings: Tensor
    examples: Tensor

    def __init__(self, n_components: int, threshold: float = ALIVE_THRESHOLD) -> None:
        super().__init__()
        self.n_components, self.threshold = _checked_count(n_components), threshold
        self.add_state("firings", torch.zeros(n_components, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("examples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, importance: Tensor) -> None:
        """Count the components of one batch.

        Args:
            importance: lower-leaky importances ``[..., C]``.
        """
        _check_width(importance, self.n_components)
        active = (importance > self.threshold).reshape(-1, self.n_components)
        self.firings += active.sum(0)
        self.examples += len(active)

    def compute(self) -> Tensor:
        """The count, a scalar."""
        return (self.firings > 0).sum()

    def mask(self) -> Tensor:
        """Which components they are, over all processes: boolean, ``[C]``. Every process must call it."""
        return self.density() > 0

    def density(self) -> Tensor:
        """Share of the examples and positions on which each is active, ``[C]``; as :meth:`mask`."""
        with self.sync_context():
            return self.firings / self.examples.clamp_min(1)


class MeanCausalImportance(Metric):
    r"""Mean importance of each component (later SPD library).

    .. math:: \bar g_c = \frac{1}{N} \sum_{n=1}^{N} g_{nc}

    Args:
        n_components: ``C``.

    Raises:
        ValueError: if ``n_components`` is below 1, or an update has another number of components.

    Example:
        >>> from torch import tensor
        >>> mean = MeanCausalImportance(n_components=2)
        >>> mean.update(tensor([[1.0, 0.0], [0.5, 0.0]]))
        >>> mean.update(tensor([[0.0, 0.75]]))
        >>> mean.compute()
        tensor([0.5000, 0.2500])
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    examples: Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = _checked_count(n_components)
        self.add_state("total", torch.zeros(n_components), dist_reduce_fx="sum")
        self.add_state("examples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, importance: Tensor) -> None:
        """Add one batch.

        Args:
            importance: lower-leaky importances ``[..., C]``; every leading dimension counts as examples.
        """
        _check_width(importance, self.n_components)
        flat = importance.detach().reshape(-1, self.n_components)
        self.total = self.total + flat.sum(0)
        self.examples += len(flat)

    def compute(self) -> Tensor:
        """The means, ``[C]``."""
        return self.total / self.examples


def _checked_count(n_components: int) -> int:
    if n_components < 1:
        raise ValueError(f"n_components must be at least 1, got {n_components}")
    return n_components


def _check_width(importance: Tensor, n_components: int) -> None:
    if importance.shape[-1:] != (n_components,):
        raise ValueError(f"importance must have shape [..., {n_components}], got {list(importance.shape)}")
