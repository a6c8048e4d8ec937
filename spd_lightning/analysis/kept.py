"""Tensors that were kept in a file, held to what they can be before anything goes on with them."""

from collections.abc import Mapping

from torch import Tensor


def check_like(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Hold tensors to the names, types and widths of others; only their lengths may differ.

    Raises:
        ValueError: if they differ in anything else.
    """
    kinds = ({name: (t.dtype, t.dim(), t.shape[1:]) for name, t in tensors.items()} for tensors in (expected, found))
    if next(kinds) != next(kinds):
        raise ValueError("tensors of another kind")


def check_below(numbers: Tensor, count: int) -> None:
    """Hold whole numbers to ``0 ... count - 1``.

    Raises:
        ValueError: if one lies outside.
    """
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < count:
        raise ValueError(f"a number outside 0 ... {count - 1}")


def check_lengths(*tensors: Tensor) -> None:
    """Hold tensors to one length.

    Raises:
        ValueError: if they have several.
    """
    if len(set(map(len, tensors))) > 1:
        raise ValueError("tensors of different lengths")


def within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin with a prefix and a slash, without it."""
    begun = f"{prefix}/"
    return {name.removeprefix(begun): tensor for name, tensor in tensors.items() if name.startswith(begun)}
