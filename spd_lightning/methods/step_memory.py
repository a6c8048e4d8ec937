"""What a step will hold, measured on a few rows before it is taken: too large a batch is refused, not killed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_map

from spd_lightning.model.call import rows_of

FEW = (2, 4)
"""Two numbers of rows; what they hold differs by what two rows hold."""
MEMINFO = Path("/proc/meminfo")
LIMIT, USED = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))


class StepMemory(NamedTuple):
    """What gradients are computed from, in bytes; weights, which are there anyway, do not count.

    Attributes:
        fixed: whatever the batch is.
        per_row: for each row of it.
    """

    fixed: float
    per_row: float

    def of(self, rows: int) -> float:
        """For a batch of so many rows."""
        return self.fixed + rows * self.per_row

    def largest_batch(self, available: float) -> int:
        """The most rows that fit."""
        return max(int((available - self.fixed) / self.per_row), 0) if self.per_row > 0 else 0


def measured(objective: Callable[[Any], Tensor], batch: Any, weights: nn.Module) -> StepMemory | None:
    """Compute an objective on a few rows and see what it keeps for its gradient.

    Args:
        objective: of a batch, a scalar.
        batch: as the objective takes it; with tensors whose first dimension is its rows.
        weights: what is not counted.

    Returns:
        The estimate; ``None`` for a batch that is small itself or cannot be cut, or an objective of a whole batch.
    """
    rows = rows_of(batch)
    if rows is None or rows < 2 * FEW[1]:
        return None
    known = {tensor.untyped_storage().data_ptr() for tensor in [*weights.parameters(), *weights.buffers()]}
    try:
        few, more = (held(lambda count=count: objective(_first(batch, rows, count)), known) for count in FEW)  # type: ignore[misc]
    except Exception:  # a term of somebody's own may need more rows; an estimate is no reason to stop
        return None
    per_row = (more - few) / (FEW[1] - FEW[0])
    return StepMemory(few - FEW[0] * per_row, per_row)


def held(compute: Callable[[], Tensor], known: set[int]) -> int:
    """Most bytes that are kept for gradients at any time of a computation.

    Args:
        compute: is called once.
        known: addresses of what does not count.
    """
    kept = _Kept(known)
    with saved_tensors_hooks(kept.pack, lambda saved: saved.tensor):
        compute()
    return kept.most


def available_memory(device: torch.device) -> int | None:
    """Bytes that a process may still take; ``None`` where nothing says."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type != "cpu" or not MEMINFO.is_file():
        return None
    line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
    free = int(line.split()[1]) * 1024
    try:
        return min(free, int(LIMIT.read_text()) - int(USED.read_text()))
    except (OSError, ValueError):  # no limit, or none of this kind
        return free


def _first(batch: Any, rows: int, count: int) -> Any:
    def cut(leaf: Any) -> Any:
        return leaf[:count] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == rows else leaf

    return tree_map(cut, batch)


class _Saved:
    """A tensor that autograd keeps; the count goes down when it is let go."""

    def __init__(self, tensor: Tensor, kept: "_Kept") -> None:
        self.tensor, self._kept = tensor, kept

    def __del__(self) -> None:
        self._kept.release(self.tensor)


class _Kept:
    """Bytes of the storages that are kept, each counted once."""

    def __init__(self, known: set[int]) -> None:
        self._known, self._times = known, Counter[int]()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> _Saved:
        address, size = self._place(tensor)
        self._times[address] += 1
        if self._times[address] == 1 and address not in self._known:
            self.now += size
            self.most = max(self.most, self.now)
        return _Saved(tensor.detach(), self)

    def release(self, tensor: Tensor) -> None:
        address, size = self._place(tensor)
        self._times[address] -= 1
        if not self._times[address] and address not in self._known:
            self.now -= size

    @staticmethod
    def _place(tensor: Tensor) -> tuple[int, int]:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
