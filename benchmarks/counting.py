"""What a step multiplies and moves, counted while it runs."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loops import Loop

ARRAYS = {"gates forward": 4, "gates backward": 5, "two masks forward": 6, "two masks backward": 10, "penalty": 3}
"""``[rows, C]`` arrays that the compiled kernels read or write per site and step, each once per call: inner activations
in and three importances out; three arrays in beside the logits and one out; twice (two in, one out); twice (three in,
two out); one in, then one in and one out. The first kernel sweeps its input twice, which is counted once."""

TABLES = 5
"""Times a site's gate table or its gradient is written or read: twice forward, three times backward."""


UNTOUCHED = {f"aten::{name}" for name in ("empty", "empty_like", "new_empty", "_unsafe_view", "_reshape_alias")}
"""Operations that neither read nor write numbers, though they are no views."""


class OperandBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operands of every PyTorch operation: inputs as read once, outputs as written once.

    Operations that only give a tensor another shape move nothing. Broadcast dimensions count once. What compiled
    kernels move is not seen here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view and func._schema.name not in UNTOUCHED:
            inputs = _tensors((args, kwargs))
            # an operation that works in place writes what it read; a fused one may write several inputs
            written = {id(tensor) for tensor in _tensors(_written(func, args, kwargs))}
            fresh = [tensor for tensor in _tensors(result) if id(tensor) not in {id(i) for i in inputs}]
            self.total += sum(map(_bytes, inputs)) + sum(map(_bytes, fresh))
            self.total += sum(_bytes(tensor) for tensor in inputs if id(tensor) in written)
        return result


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    arguments = func._schema.arguments
    named = {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
    return [named.get(a.name) for a in arguments if a.alias_info is not None and a.alias_info.is_write]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    sizes: Iterable[int] = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    count = 1
    for size in sizes:
        count *= size
    return count * tensor.element_size()


def kernel_bytes(loop: Loop) -> int:
    """Bytes of the arrays and tables that the compiled kernels are handed in one step, each once per call."""
    rows, total = len(loop.batch(loop.taken)[0]), 0
    for parts in loop.module.model.components.values():
        arrays = sum(ARRAYS.values()) * rows * parts.n_components * 4
        total += arrays + TABLES * parts.n_components * loop.module.tables.nodes * 4 * 4
    return total


def count_step(loop: Loop) -> dict[str, int]:
    """Take one step of a fast loop and count.

    Returns:
        ``multiply_adds`` of matrix products, forward and backward, and ``operand_bytes`` of all operations and kernels.
    """
    with FlopCounterMode(display=False) as products:
        loop.step()
    with OperandBytes() as moved:
        loop.step()
    multiply_adds = products.get_total_flops() // 2  # it counts a multiplication and an addition as two
    return {"multiply_adds": multiply_adds, "operand_bytes": moved.total + kernel_bytes(loop)}
