"""The error that users are meant to read, and the checks of arguments that raise it."""

import math
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NoReturn

WRONG_USAGE = 2
"""What commands exit with when what they were given cannot work."""
INTERRUPTED = 130
"""The same after Ctrl-C."""
LARGEST = 2**31 - 1
"""Largest whole number that counts anything here: beyond it no machine has the memory or the time."""


class UsageError(ValueError):
    """Something that the user gave cannot work. The message is one line: what, the rule, the value, the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line of ours."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where help is."""
        raise UsageError(f"{message}; see {self.prog} --help")


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """For small commands: a :class:`UsageError` inside is one line on stderr, and the process ends with code 2.

    Raises:
        SystemExit: in its place.
    """
    try:
        yield
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(WRONG_USAGE)


def missing_extra(what: str, package: str, extra: str) -> UsageError:
    """What to raise where an optional package cannot be imported.

    Args:
        what: needs the package.
        package: its name.
        extra: the extra of this package that brings it.

    Returns:
        The error, which says how to install it.
    """
    return UsageError(f"{what} needs {package}; in the clone: pip install -e '.[{extra}]'")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a :class:`UsageError` that names the argument unless its value is one of the choices."""
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_whole(name: str, value: Any, least: int | None = None, most: int | None = LARGEST) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is a whole number, no bool, within bounds.

    Args:
        name: the argument.
        value: what it was given.
        least: smallest value; ``None`` for any.
        most: largest value; ``None`` for any.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    value = int(value)
    if least is not None and value < least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
    if most is not None and value > most:
        got = value if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
        raise UsageError(f"{name} must be at most {most}, got {got}")


def check_number(name: str, value: Any) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is a number, no bool; nan and inf are numbers."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, got {value!r}")


def check_finite(name: str, value: float) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is a finite number."""
    check_number(name, value)
    if not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, got {value}")


def check_fraction(name: str, value: float, zero: bool = True) -> None:
    """Raise a :class:`UsageError` that names the argument unless it lies in [0, 1] or, without zero, in (0, 1]."""
    check_number(name, value)
    if not 0 <= value <= 1 or (value == 0 and not zero):
        raise UsageError(f"{name} must lie in {'[' if zero else '('}0, 1], got {value}")


def check_below_one(name: str, value: float) -> None:
    """Raise a :class:`UsageError` that names the argument unless it lies in [0, 1), as what is divided by 1 - it."""
    check_fraction(name, value)
    if value == 1:
        raise UsageError(f"{name} must be below 1, got {value}")


def check_flag(name: str, value: object) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is a bool."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, got {value!r}")


def check_list(name: str, value: Any) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is a list, or something like it but text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{name} must be a list, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise a :class:`UsageError` that names the argument unless it is text without a zero byte."""
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{name} must be text, got {value!r}")
