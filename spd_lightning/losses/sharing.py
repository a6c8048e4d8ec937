"""One batch shared by several processes: which rows are whose, and sums over all of them."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_map

from spd_lightning.functional import RowShare, batch_topk
from spd_lightning.functional.weights import Weights


def processes() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of every process's tensor, without gradient."""
    total = tensor.detach().clone()
    distributed.all_reduce(total)
    return total


def mean_over_processes(tensor: Tensor) -> Tensor:
    """The mean of every process's tensor.

    Its gradient is that of the process's own tensor: data-parallel training averages gradients over processes, and so
    makes it the mean's.
    """
    return tensor + (sum_over_processes(tensor) / processes() - tensor).detach()


def largest_over_processes(number: int, device: torch.device) -> int:
    """The largest of every process's number."""
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def rows_of_all(batch: Any) -> Any:
    """The rows of all processes, in the order of their ranks; whatever is not a tensor stays as it is."""
    if processes() == 1:
        return batch
    return tree_map(_gathered, batch)


def _gathered(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    every: list[Any] = [None] * processes()
    distributed.all_gather_object(every, leaf.cpu())
    return torch.cat(every).to(leaf.device)


def shared_topk(scores: Tensor, k: float, weights: Tensor | None = None) -> Tensor:
    """The largest attributions of a batch that processes may share, see :func:`spd_lightning.functional.batch_topk`.

    Args:
        scores: of the rows here, ``[..., C]``.
        k: mean number of components per example of the whole batch.
        weights: of the examples here, ``[...]``, so that the mean over processes of their sums is 1.

    Returns:
        0 or 1 for the rows here, ``[..., C]``.
    """
    if processes() == 1:
        return batch_topk(scores, k, weights)
    every: list[Any] = [None] * processes()
    own = scores.flatten(0, -2).cpu(), None if weights is None else weights.flatten().cpu() / processes()
    distributed.all_gather_object(every, own)
    weighed = None if weights is None else torch.cat([part for _, part in every])
    mask = batch_topk(torch.cat([part for part, _ in every]), k, weighed)
    masks = torch.split(mask, [len(part) for part, _ in every])
    return masks[distributed.get_rank()].to(scores).reshape(scores.shape)


def shared_rows(rows: int, weights: Weights, device: torch.device) -> tuple[RowShare, Weights]:
    """Find out, together with all other processes, which rows of a batch this one holds.

    Args:
        rows: how many it holds.
        weights: of its positions.
        device: where processes exchange numbers.

    Returns:
        The rows, and weights with which the mean over processes of weighted sums is the mean over the batch.
    """
    own = torch.tensor([rows], dtype=torch.float64, device=device)
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    counts = torch.cat(every).long().tolist()
    share = RowShare(sum(counts[: distributed.get_rank()]), sum(counts))
    if weights.values is None:
        if len(set(counts)) == 1:  # the mean over processes of plain means is the mean over the batch
            return share, weights
        weights = Weights(torch.ones(rows, device=device))
    return share, weights.gathered(lambda total: sum_over_processes(total) / processes())
