"""One batch shared by several processes: which rows are whose, and sums over all of them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from spd_lightning.functional import RowShare, batch_topk


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


def rows_of_all(x: Any) -> Any:
    """The rows of all processes, in the order of their ranks; what is no tensor stays as it is."""
    if processes() == 1 or not isinstance(x, Tensor):
        return x
    every: list[Any] = [None] * processes()
    distributed.all_gather_object(every, x.cpu())
    return torch.cat(every).to(x.device)


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


class SharedRows(NamedTuple):
    """The rows of one process.

    Attributes:
        share: which rows of the batch they are; processes hold theirs in the order of their ranks.
        weights: ``[...]``, so that the mean over processes of weighted sums is the mean over the batch; ``None`` where
            the mean over processes of plain means already is.
    """

    share: RowShare
    weights: Tensor | None


def shared_rows(leading: torch.Size, weights: Tensor | None, device: torch.device) -> SharedRows:
    """Find out, together with all other processes, which rows of a batch this one holds.

    Args:
        leading: leading dimensions of its activations, rows first.
        weights: of its examples, ``[...]``, if they have any.
        device: where processes exchange numbers.

    Returns:
        The rows.
    """
    count = distributed.get_world_size()
    own = torch.tensor([leading[0], leading.numel() if weights is None else 0.0], dtype=torch.float64, device=device)
    if weights is not None:
        own[1] = weights.sum()
    every = [torch.empty_like(own) for _ in range(count)]
    distributed.all_gather(every, own)
    table = torch.stack(every).cpu()
    first = int(table[: distributed.get_rank(), 0].sum())
    share = RowShare(first, int(table[:, 0].sum()))
    if weights is not None:
        return SharedRows(share, weights * (count / table[:, 1].sum().item()))
    if bool((table[:, 1] == table[0, 1]).all()):
        return SharedRows(share, None)
    return SharedRows(share, torch.full(leading, count / table[:, 1].sum().item(), device=device))
