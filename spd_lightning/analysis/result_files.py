"""What files of results share: a common name, and numbers as JSON takes them."""

import math
from pathlib import Path


def beside(path: Path, ending: str) -> Path:
    """One of the files of a result.

    Args:
        path: their common name, which may hold dots of its own.
        ending: of this one.

    Returns:
        The path of this one.
    """
    return path.with_name(path.name + ending)


def number_or_none(value: float) -> float | None:
    """A number as JSON takes it: nothing in place of infinity and of what is not a number."""
    return value if math.isfinite(value) else None
