"""How far long work is: a bar on a terminal, a line every now and then elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE_INTERVAL_S = 15.0
"""Seconds between two lines where there is no terminal; work that is done sooner says nothing."""
_LINE = "{desc}: {n_fmt} of {total_fmt} in {elapsed}, {remaining} left{postfix}"


def progress(
    what: str, iterable: Iterable[Any] | None = None, total: int | None = None, show: bool = True
) -> "tqdm[Any]":
    """A ``tqdm`` bar that vanishes when it is done.

    Args:
        what: is being done.
        iterable: what is gone through; ``None`` for a bar that the caller moves.
        total: how much there is; ``None`` for the iterable's length.
        show: whether to show anything at all.
    """
    settings: dict[str, Any] = {"mininterval": 0.5, "disable": not show}
    if not sys.stderr.isatty():
        seconds = LINE_INTERVAL_S
        settings |= {"delay": seconds, "mininterval": seconds, "maxinterval": seconds}
        settings |= {"file": _Lines(), "bar_format": _LINE}
    return tqdm(iterable, what, total, leave=False, **settings)


class _Lines:
    """Takes what is meant to be redrawn, and writes it as lines on stderr."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
