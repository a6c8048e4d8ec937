"""What was read from files, kept for as long as these do not change."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from spd_lightning.files.arrays import Signature, signature

T = TypeVar("T")
BUDGET = 192 * 2**20
"""Bytes that are kept, by the estimates of those who ask."""
LEAST = 2048
"""Bytes that anything counts."""


@dataclass(frozen=True)
class _Entry:
    signatures: tuple[Signature | None, ...]
    value: object
    weight: int


class Cache:
    """Values made from files, made again once any of the files changed, appeared or went.

    Args:
        budget: estimated bytes; what was asked for longest ago goes first.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget, self._weight = budget, 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock, self._making = threading.Lock(), dict[Hashable, threading.Lock]()

    def of(
        self, kind: Hashable, paths: Sequence[Path], make: Callable[[], T], weight: Callable[[T], int] = lambda _: LEAST
    ) -> T:
        """A value.

        Args:
            kind: what is made; values of different kinds from the same files are kept apart.
            paths: the files it is made from.
            make: makes it; what it raises is not kept.
            weight: estimates how many bytes it takes.
        """
        key, now = (kind, tuple(paths)), tuple(map(signature, paths))
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.signatures == now:
                self._entries.move_to_end(key)
                return cast(T, entry.value)
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:  # whoever asks meanwhile waits, and makes nothing
                return self._made(key, now, make, weight)
        finally:
            with self._lock:
                self._making.pop(key, None)

    def _made(
        self, key: Hashable, now: tuple[Signature | None, ...], make: Callable[[], T], weight: Callable[[T], int]
    ) -> T:
        with self._lock:
            entry = self._entries.get(key)
        if entry is not None and entry.signatures == now:
            return cast(T, entry.value)
        value = make()
        self._keep(key, _Entry(now, value, max(weight(value), LEAST)))
        return value

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            self._drop(key)
            if entry.weight > self._budget:
                return
            while self._entries and self._weight + entry.weight > self._budget:
                self._drop(next(iter(self._entries)))
            self._entries[key] = entry
            self._weight += entry.weight

    def _drop(self, key: Hashable) -> None:
        if key in self._entries:
            self._weight -= self._entries.pop(key).weight
