"""A server of the chat protocol on loopback that answers as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What a server was asked.

    Attributes:
        address: of the protocol's root.
        questions: texts of the messages.
        headers: of each request.
        bodies: of each request.
    """

    address: str = ""
    questions: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


def chat(text: str) -> tuple[int, dict[str, str], bytes]:
    """An answer as the protocol has it."""
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def serving(answer: Callable[[str, int], tuple[int, dict[str, str], bytes]], drip: float = 0.0) -> Iterator[Served]:
    """Serve while a ``with`` block runs.

    Args:
        answer: given a question and its number, the status, headers and body of the answer.
        drip: seconds between two bytes of an answer.
    """
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.bodies.append(body)
            served.headers.append(dict(self.headers))
            served.questions.append(body["messages"][0]["content"])
            assert self.path == "/v1/chat/completions"
            status, headers, content = answer(served.questions[-1], len(served.questions) - 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for start in range(0, len(content), 1 if drip else len(content)):
                    self.wfile.write(content[start : start + 1] if drip else content)
                    self.wfile.flush()
                    threading.Event().wait(drip)
            except OSError:
                pass  # the client has given up

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
