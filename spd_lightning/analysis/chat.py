"""A server that speaks the chat protocol of OpenAI, asked one question at a time, with the standard library alone."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from spd_lightning.errors import UsageError, check_finite, check_whole

KEY_VARIABLE = "SPD_LIGHTNING_API_KEY"
MOST_BYTES = 1 << 20
"""Of an answer; the rest of a longer one is not waited for."""
LONGEST_WAIT_S = 60.0
_PASSING = {408, 409, 425, 429}
"""Refusals that another try may get past, beside the server's own errors from 500 on."""


class _FailedTryError(Exception):
    """One try that failed: why, whether another may succeed, and how long the server asks to wait."""

    def __init__(self, reason: str, passing: bool, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.passing, self.wait = passing, wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the server that the user has named and to no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class ChatServer:
    """Asks a model on a server, trying again when the server is busy or away.

    Args:
        server: address of the protocol's root, such as ``http://127.0.0.1:8000/v1``.
        model: the model's name there.
        key: sent as a bearer token; ``None`` for none.
        timeout: seconds for one whole answer.
        retries: how often a question is asked again.
        wait: seconds before the first repetition; doubled each time, at most a minute.

    Raises:
        UsageError: for an address that is none, or a number outside its range.
    """

    def __init__(
        self,
        server: str,
        model: str,
        key: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        wait: float = 1.0,
    ) -> None:
        check_finite("--timeout", timeout)
        if timeout <= 0:
            raise UsageError(f"--timeout must be above 0, got {timeout}")
        check_whole("--retries", retries, least=0, most=100)
        if not model:
            raise UsageError("--model must name a model of the server, got ''")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError(f"{KEY_VARIABLE} must be printable ASCII; it is not shown here")
        self.server, self.model, self._key = _checked(server), model, key
        self.timeout, self.retries, self._wait = timeout, retries, wait
        self._opener = urllib.request.build_opener(_NoRedirect())

    def ask(self, question: str, accept: Callable[[str], str]) -> str:
        """Ask until an answer is accepted.

        Args:
            question: one message.
            accept: given the text of an answer, returns what is wanted of it; a :class:`ValueError` says what is wrong
                with it, and counts as a failed try.

        Raises:
            UsageError: if the last try fails, or the server refuses for good.
        """
        pause = self._wait
        for left in range(self.retries, -1, -1):
            try:
                return self._accepted(question, accept)
            except _FailedTryError as failed:
                if not left or not failed.passing:
                    tries = f" after {self.retries + 1} tries" if failed.passing and self.retries else ""
                    raise UsageError(
                        f"--server {self.server!r}: {failed}{tries}; what is finished is kept, the same command goes on"
                    ) from None
                time.sleep(min(max(pause, failed.wait), LONGEST_WAIT_S))
                pause *= 2
        raise AssertionError("the last try returns or raises")

    def _accepted(self, question: str, accept: Callable[[str], str]) -> str:
        content = self._answer(question)
        try:
            text = json.loads(content)["choices"][0]["message"]["content"]
            if not isinstance(text, str):
                raise TypeError("no text")
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise _FailedTryError(f"the answer is none of a chat: {_short(content)}", passing=True) from None
        try:
            return accept(text.rpartition("</think>")[2].strip())
        except ValueError as error:
            raise _FailedTryError(f"{error}: {_short(text)}", passing=True) from None

    def _answer(self, question: str) -> str:
        body = {"model": self.model, "messages": [{"role": "user", "content": question}], "temperature": 0}
        headers = {"Content-Type": "application/json"}
        headers |= {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(
            f"{self.server}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return self._whole(response)
        except urllib.error.HTTPError as error:
            said = _read_little(error)
            passing = error.code >= 500 or error.code in _PASSING
            raise _FailedTryError(f"it answers {error.code}: {_short(said)}", passing, _asked_wait(error)) from None
        except (OSError, http.client.HTTPException) as error:  # away, slow, or no server of HTTP
            reason = getattr(error, "reason", None) or error
            slow = isinstance(reason, TimeoutError)
            said = f"no answer within {self.timeout:g} s" if slow else f"it cannot be reached ({_short(str(reason))})"
            raise _FailedTryError(said, passing=True) from None

    def _whole(self, response: http.client.HTTPResponse) -> str:
        """All of an answer, within the time for it: a server that sends a byte now and then is slow, too."""
        deadline, parts, size = time.monotonic() + self.timeout, list[bytes](), 0
        while size <= MOST_BYTES:
            part = response.read1(1 << 16)
            if not part:
                return b"".join(parts).decode(errors="replace")
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError
        raise _FailedTryError(f"its answer is longer than {MOST_BYTES} bytes", passing=True)


def _checked(server: str) -> str:
    try:
        parts = urllib.parse.urlsplit(server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and server.isascii() and server.isprintable() and " " not in server
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"--server must be an address such as http://127.0.0.1:8000/v1, got {server!r}")
    return server.rstrip("/")


def _read_little(error: urllib.error.HTTPError) -> str:
    """What a server says of its refusal, if it does."""
    try:
        with error:
            return error.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _asked_wait(error: urllib.error.HTTPError) -> float:
    """Seconds that the server asks to wait; dates are not looked at."""
    asked = error.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() and len(asked) < 6 else 0.0


def _short(text: str) -> str:
    """The beginning of what a server has sent, in one line that a terminal shows as it is."""
    line = " ".join(text.split())
    shown = line if len(line) <= 80 else f"{line[:79]}…"
    return repr(shown)
