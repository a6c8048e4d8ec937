"""Single examples, taken out of batches."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from spd_lightning.model.call import rows_of


def has_rows(batch: Any) -> Any:
    """Which parts of a batch have a row for each of its examples.

    Args:
        batch: as a model's call takes it.

    Returns:
        The batch with truth values in place of its parts.
    """
    rows = rows_of(batch)
    return tree_map(lambda part: isinstance(part, Tensor) and part.dim() > 0 and len(part) == rows, batch)


def example_of(batch: Any, number: int) -> Any:
    """An example as a batch of its own.

    Args:
        batch: as a model's call takes it.
        number: of the example, from 0.

    Returns:
        The batch with one row; what has no row for each example is as it was.
    """
    return tree_map(lambda part, split: part[number : number + 1] if split else part, batch, has_rows(batch))


def examples_of(batches: Iterable[Any]) -> Iterator[Any]:
    """The examples of batches one by one, each a batch of its own."""
    for batch in batches:
        for number in range(rows_of(batch) or 0):
            yield example_of(batch, number)
