"""Requests and their answers: parameters read with care, plain data and arrays written, every fault one line."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.backend import http_util
from tensorboard.util import tb_logging
from werkzeug import wrappers

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array

MAX_TEXT = 500
"""Characters of a parameter."""
MAX_NUMBERS = 4_000_000
"""Numbers of an array that are sent."""


class GoneError(UsageError):
    """What is asked for is not there, or not there any more."""


class MissingError(UsageError):
    """A file that an analysis would have made is not there; the message says what makes it."""


class WrongParameterError(UsageError):
    """A parameter that no link of the tab's holds."""


class Parameters:
    """Parameters of a request.

    Args:
        given: by name.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str, default: str = "") -> str:
        """A text of at most 500 characters."""
        value = self._given.get(name, default)
        if len(value) > MAX_TEXT or "\0" in value:
            raise WrongParameterError(f"{name} is longer than {MAX_TEXT} characters, or holds a zero byte")
        return value

    def whole(self, name: str, default: int | None = None, most: int = 2**31 - 1) -> int | None:
        """A whole number from 0 on; ``default`` where it is left out or empty."""
        value = self.text(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= most):
            raise WrongParameterError(f"{name} must be a whole number from 0 to {most}")
        return int(value)

    def number(self, name: str, default: int = 0, most: int = 2**31 - 1) -> int:
        """A whole number that has a default."""
        found = self.whole(name, default, most)
        return default if found is None else found

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of some texts; the first where it is left out."""
        value = self.text(name) or choices[0]
        if value not in choices:
            raise WrongParameterError(f"{name} must be one of {', '.join(choices)}")
        return value


class Arrays:
    """Arrays and what is said of them: JSON, then the numbers one after another.

    On the wire, all of it little-endian: the length of the JSON in four bytes; the JSON, filled with blanks to a
    multiple of four, whose entry ``arrays`` lists name, type and shape; the arrays, each filled likewise.

    Args:
        about: plain data.
        arrays: by name; float32, int32 or uint8.
    """

    def __init__(self, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        if sum(array.size for array in arrays.values()) > MAX_NUMBERS:
            raise UsageError(f"more than {MAX_NUMBERS} numbers; this view shows smaller arrays")
        listed = [{"name": name, "type": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()]
        text = written({**about, "arrays": listed}).encode()
        text += b" " * (-len(text) % 4)
        parts = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in arrays.values()]
        self.content = b"".join(
            [len(text).to_bytes(4, "little"), text, *(part + b"\0" * (-len(part) % 4) for part in parts)]
        )


def written(content: Any) -> str:
    """Plain data as JSON that every browser reads: numbers that are none become ``null``."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":"), default=_listed)
    except ValueError:
        return json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))


def _listed(content: Any) -> Any:
    """Arrays and their numbers as Python's own."""
    if isinstance(content, np.ndarray | np.generic):
        return content.tolist()
    raise ValueError(f"{type(content).__name__} is no plain data")


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(name): _plain(value) for name, value in content.items()}
    if isinstance(content, np.ndarray | np.generic):
        content = content.tolist()
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, int) and abs(content) > 2**53 and not isinstance(content, bool):
        return None
    return content


def answering(serve: Callable[[Parameters], Any]) -> Any:
    """A route.

    Args:
        serve: gives plain data or :class:`Arrays`. A :class:`UsageError` becomes ``{"error": line, "kind": ...}``, with
            status 200, so that a browser counts it as no fault of the page; 400 for parameters that no link holds.

    Returns:
        The WSGI application. It never answers 5xx: files may come from anywhere and may fail in any way.
    """

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        code, content = _answer(serve, Parameters(request.args))
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        found: wrappers.Response = http_util.Respond(request, content, kind, code=code)
        return found

    return app


def _answer(serve: Callable[[Parameters], Any], parameters: Parameters) -> tuple[int, str | bytes]:
    try:
        with np.errstate(all="ignore"):  # files may hold any numbers; those that are none become null
            content = serve(parameters)
        return 200, content.content if isinstance(content, Arrays) else written(content)
    except UsageError as error:
        return 400 if isinstance(error, WrongParameterError) else 200, written(told(error))
    except Exception:
        tb_logging.get_logger().exception("the Components tab could not answer")
        return 200, written(told(UsageError("a file of this run holds what this version cannot show")))


def told(error: UsageError) -> dict[str, str]:
    """A fault as the page shows it: one line, and of which kind."""
    kinds = {WrongParameterError: "wrong", GoneError: "gone", MissingError: "missing"}
    kind = next((kind for of, kind in kinds.items() if isinstance(error, of)), "damaged")
    return {"error": " ".join(str(error).split())[:2000], "kind": kind}
