"""The chat protocol against a server on loopback that answers, is slow, away, busy, or answers nonsense."""

import json
import socket
import threading
import time

import pytest

from spd_lightning import UsageError
from spd_lightning.analysis import chat as module
from spd_lightning.analysis.chat import ChatServer
from tests.analysis.chat_server import chat, serving


@pytest.fixture
def waited(monkeypatch):
    """The pauses that were asked for; nobody waits."""
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    return pauses


def _as_it_is(text):
    return text


def test_a_question_is_asked_and_its_answer_is_returned():
    with serving(lambda question, number: chat("  yes\n")) as served:
        assert ChatServer(served.address + "/", "small", key="secret").ask("Is it?", _as_it_is) == "yes"
    assert served.bodies == [{"model": "small", "messages": [{"role": "user", "content": "Is it?"}], "temperature": 0}]
    assert served.headers[0]["Authorization"] == "Bearer secret"
    assert served.headers[0]["Content-Type"] == "application/json"


def test_without_a_key_none_is_sent():
    with serving(lambda question, number: chat("yes")) as served:
        ChatServer(served.address, "small").ask("?", _as_it_is)
    assert "Authorization" not in served.headers[0]


def test_what_a_model_thinks_aloud_is_left_out():
    with serving(lambda question, number: chat("<think>hm, no</think>\nyes")) as served:
        assert ChatServer(served.address, "small").ask("?", _as_it_is) == "yes"


BUSY = [(503, {}, b"busy"), (429, {"Retry-After": "7"}, b""), (500, {"Retry-After": "soon"}, b"")]


def test_a_busy_server_is_asked_again_later_each_time(waited):
    with serving(lambda question, number: (*BUSY, chat("yes"))[number]) as served:
        assert ChatServer(served.address, "small", wait=2.0).ask("?", _as_it_is) == "yes"
    assert waited == [2.0, 7.0, 8.0]


NONSENSE = {
    "no JSON": (200, {}, b"<html>"),
    "no choices": (200, {}, b'{"choices": []}'),
    "no text": (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
    "a list": (200, {}, b"[1]"),
    "nothing": (200, {}, b""),
    "deep": (200, {}, b"[" * 100_000),
    "cut": (200, {"Content-Length": "1000"}, b'{"choices"'),
    "endless": (200, {}, b"x" * (2 << 20)),
    "bytes": (200, {}, b"\xff\xfe\x00\x1b[31m"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_one_line_after_all_tries(name, waited):
    with (
        serving(lambda question, number: NONSENSE[name]) as served,
        pytest.raises(UsageError, match="after 2 tries; what is finished is kept, the same command goes on") as raised,
    ):
        ChatServer(served.address, "small", retries=1).ask("?", _as_it_is)
    assert len(served.questions) == 2
    assert len(str(raised.value)) < 350
    assert str(raised.value).isprintable()


def test_an_answer_that_is_not_accepted_is_asked_for_again(waited):
    def accept(text):
        if text != "yes":
            raise ValueError("it is not yes")
        return text

    with serving(lambda question, number: chat(["no", "yes"][number])) as served:
        assert ChatServer(served.address, "small").ask("?", accept) == "yes"
    with (
        serving(lambda question, number: chat("no")) as served,
        pytest.raises(UsageError, match=r"it is not yes: 'no' after 2 tries"),
    ):
        ChatServer(served.address, "small", retries=1).ask("?", accept)


@pytest.mark.parametrize("status", [400, 401, 404, 301, 302, 307])
def test_a_refusal_for_good_is_not_repeated_and_no_other_server_is_asked(status, waited):
    with serving(lambda question, number: chat("yes")) as other:
        answer = status, {"Location": f"{other.address}/chat/completions"}, b"go away"
        with (
            serving(lambda question, number: answer) as served,
            pytest.raises(UsageError, match=f"it answers {status}: 'go away'; what is finished"),
        ):
            ChatServer(served.address, "small", key="secret").ask("?", _as_it_is)
    assert (len(served.questions), other.questions, waited) == (1, [], [])


def test_a_server_that_is_away_is_told_after_all_tries(waited):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError, match=r"it cannot be reached .*refused.* after 3 tries"):
        ChatServer(f"http://127.0.0.1:{port}/v1", "small", retries=2).ask("?", _as_it_is)
    assert waited == [1.0, 2.0]


@pytest.mark.parametrize("drip", [0.0, 0.05])
def test_a_slow_server_is_not_waited_for(drip):
    """Whether it says nothing, or a byte now and then."""

    def answer(question, number):
        if not drip:
            time.sleep(2)
        return chat("yes" * 40)

    begun = time.monotonic()
    with serving(answer, drip) as served, pytest.raises(UsageError, match=r"no answer within 0.3 s; what"):
        ChatServer(served.address, "small", timeout=0.3, retries=0).ask("?", _as_it_is)
    assert time.monotonic() - begun < 1.9


def test_a_server_that_speaks_no_http_is_told(waited):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak():
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(b"SSH-2.0-x\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=speak)
        thread.start()
        server = ChatServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "small", retries=0)
        with pytest.raises(UsageError, match="it cannot be reached"):
            server.ask("?", _as_it_is)
        thread.join()


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:8000", "file:///etc/passwd", "ftp://a/v1", "http://", "http://a:x/v1", "http://a b/", "http://é/"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="--server must be an address such as"):
        ChatServer(address, "small")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timeout": 0.0}, "--timeout must be above 0"),
        ({"timeout": float("nan")}, "--timeout must be a finite number"),
        ({"retries": -1}, "--retries must be at least 0"),
        ({"model": ""}, "--model must name a model"),
        ({"key": "a\nb"}, "must be printable ASCII; it is not shown"),
    ],
)
def test_options_outside_their_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        ChatServer(**{"server": "http://a/v1", "model": "small"} | given)


def test_the_question_is_sent_as_json_whatever_it_holds():
    question = 'a "quoted" \U0001f600 \u202e <script>'
    with serving(lambda asked, number: chat(json.dumps(asked))) as served:
        ChatServer(served.address, "small").ask(question, _as_it_is)
    assert served.questions == [question]
