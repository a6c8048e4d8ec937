"""Agreement of a decomposition with mechanisms that are known."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from spd_lightning.functional import dense_contradictions, identity_contradictions, l2_ratio, max_cosine_similarity


class _ColumnMean(Metric):
    """Mean of one score per column of the target's matrices, over all columns seen."""

    full_state_update = False
    is_differentiable = False
    total: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("columns", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def _score(self, read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
        """One score per column, ``[d_in]``."""

    def update(self, read: Tensor, write: Tensor, weight: Tensor) -> None:
        """Add the columns of one matrix.

        Args:
            read: ``V``, ``[d_in, C]``.
            write: ``U``, ``[C, d_out]``.
            weight: the target's matrix ``[d_out, d_in]``.

        Raises:
            ValueError: if the three shapes do not belong together.
        """
        if read.shape[1] != write.shape[0] or weight.shape != (write.shape[1], read.shape[0]):
            shapes = f"{list(read.shape)}, {list(write.shape)} and {list(weight.shape)}"
            raise ValueError(f"read, write and weight must be [d_in, C], [C, d_out] and [d_out, d_in], got {shapes}")
        scores = self._score(read.detach(), write.detach(), weight.detach())
        self.total = self.total + scores.sum()
        self.columns += scores.numel()

    def compute(self) -> Tensor:
        """The mean, a scalar."""
        return self.total / self.columns


class MeanMaxCosineSimilarity(_ColumnMean):
    r"""MMCS: how well some component points along each column of the target's matrix (SPD paper, Table 1).

    .. math:: \frac{1}{d_{in}} \sum_j \max_c \cos(U_c V_{jc}, W_{:,j})

    The cosine is signed. Read it beside its chance level, :func:`spd_lightning.functional.chance_mmcs`, which is far
    from 0, and beside :class:`MeanL2Ratio`, since it does not see lengths.

    Example:
        >>> from torch import eye, tensor
        >>> mmcs = MeanMaxCosineSimilarity()
        >>> mmcs.update(read=0.5 * eye(2), write=eye(2), weight=tensor([[1.0, 3.0], [0.0, 4.0]]))
        >>> mmcs.compute()
        tensor(0.9000)
    """

    higher_is_better = True

    def _score(self, read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
        return max_cosine_similarity(read, write, weight)


class MeanL2Ratio(_ColumnMean):
    r"""ML2R: length of the best-aligned component's column over the target's (SPD paper, Table 1).

    .. math:: \frac{1}{d_{in}} \sum_j \frac{\lVert U_{c(j)} V_{j c(j)} \rVert}{\lVert W_{:,j} \rVert},
        \quad c(j) = \arg\max_c \cos(U_c V_{jc}, W_{:,j})

    1 is perfect; below 1 the components have shrunk.

    Example:
        >>> from torch import eye, tensor
        >>> ml2r = MeanL2Ratio()
        >>> ml2r.update(read=0.5 * eye(2), write=eye(2), weight=tensor([[1.0, 0.0], [0.0, 0.25]]))
        >>> ml2r.compute()
        tensor(1.2500)
    """

    def _score(self, read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
        return l2_ratio(read, write, weight)


class _ContradictionCount(Metric):
    """Sum over updates of a number of wrong importances."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    contradictions: Tensor

    def __init__(self, tolerance: float) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.add_state("contradictions", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def _count(self, table: Tensor) -> int:
        """Contradictions in one table."""

    def update(self, table: Tensor) -> None:
        """Count those of one site.

        Args:
            table: lower-leaky importances ``[n_rows, C]`` on one-hot probes.

        Raises:
            ValueError: if the table has not two dimensions.
        """
        if table.dim() != 2:
            raise ValueError(f"table must have shape [n_rows, C], got {list(table.shape)}")
        self.contradictions += self._count(table)

    def compute(self) -> Tensor:
        """The sum over updates and processes, a scalar; 0 is a perfect match."""
        return self.contradictions.clone()


class IdentityContradictions(_ContradictionCount):
    """Importances that contradict "one component per feature, one feature per component" (later SPD library).

    Off-diagonal entries above the tolerance plus diagonal entries below one minus the tolerance, after the best
    one-to-one matching of rows and columns; see :func:`spd_lightning.functional.identity_contradictions`. Summed over
    updates, one per site; the processes of a distributed run should share the tables out, not repeat them.

    Args:
        tolerance: slack on either side; 0.1 and 0.2 are usual.

    Example:
        >>> from torch import tensor
        >>> count = IdentityContradictions(tolerance=0.1)
        >>> count.update(tensor([[0.0, 1.0, 0.0], [0.95, 0.2, 0.0]]))
        >>> count.compute()
        tensor(1)
    """

    def __init__(self, tolerance: float = 0.1) -> None:
        super().__init__(tolerance)

    def _count(self, table: Tensor) -> int:
        return identity_contradictions(table, self.tolerance)


class DenseContradictions(_ContradictionCount):
    """Importances that contradict "``n_dense`` components are used, all others idle" (later SPD library).

    See :func:`spd_lightning.functional.dense_contradictions`. Summed over updates, one per site; the processes of a
    distributed run should share the tables out, not repeat them.

    Args:
        n_dense: number of components expected in use.
        tolerance: slack on either side; 0.1 and 0.2 are usual.
        min_entries: strong entries that a used component must have.

    Raises:
        ValueError: if ``n_dense`` is negative or ``min_entries`` below 1.

    Example:
        >>> from torch import tensor
        >>> count = DenseContradictions(n_dense=1, tolerance=0.1)
        >>> count.update(tensor([[0.9, 0.2, 0.0], [0.6, 0.3, 0.0]]))
        >>> count.compute()
        tensor(2)
    """

    def __init__(self, n_dense: int, tolerance: float = 0.1, min_entries: int = 1) -> None:
        super().__init__(tolerance)
        if n_dense < 0 or min_entries < 1:
            raise ValueError(f"n_dense must be at least 0 and min_entries at least 1, got {n_dense} and {min_entries}")
        self.n_dense, self.min_entries = n_dense, min_entries

    def _count(self, table: Tensor) -> int:
        return dense_contradictions(table, self.n_dense, self.tolerance, self.min_entries)
