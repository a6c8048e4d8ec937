"""Seeds as people write them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import yaml

from spd_lightning.cli.settings import LARGEST_SEED
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED, checked_values, value_text
from spd_lightning.sweep.plan import SweepPlan

MOST = 10_000
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")
_ONE = re.compile(r"(([0-9]+))")


def read_seeds(words: Iterable[str]) -> list[str]:
    """Seeds from numbers and ranges, such as ``["0-2", "7"]``, each once.

    Raises:
        UsageError: for anything else, or a range of more than ten thousand.
    """
    found: dict[str, None] = {}
    for word in words:
        ends = _RANGE.fullmatch(word) or _ONE.fullmatch(word)
        first, last = map(int, ends.groups()) if ends and len(word) < 32 else (1, 0)
        if not first <= last <= LARGEST_SEED or last - first >= MOST:
            raise UsageError(f"seeds are whole numbers up to {LARGEST_SEED} or ranges such as 0-99, got {word!r}")
        found |= dict.fromkeys(map(str, range(first, last + 1)))
    return list(found)


def seeds_of(node: yaml.Node) -> list[str]:
    """Seeds as a plan gives them: a range, a number, or a list of both."""
    return read_seeds(checked_values("seeds", node) if isinstance(node, yaml.SequenceNode) else [value_text(node)])


def with_seeds(plan: SweepPlan, seeds: Sequence[str]) -> SweepPlan:
    """An entry that takes each of its points with so many seeds."""
    return replace(plan, grids=tuple({**grid, SEED: seeds} for grid in plan.grids or ({},)))
