"""A chat endpoint on loopback that answers what a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """A real server with OpenAI's chat interface on loopback.

    ``answer`` is given a request's body and says the message, or status, body and seconds to wait, or gives
    piece by piece all that is sent, from the status line on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ChatHandler)
        self.answer: Callable[[dict[str, Any]], str | tuple[int, bytes, float] | Iterator[bytes]] = (
            lambda body: "safe"
        )
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/"


class _ChatHandler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(dict(self.headers))
        answer = self.server.answer(body)
        if isinstance(answer, str):
            choice = {"message": {"role": "assistant", "content": answer}}
            answer = 200, json.dumps({"choices": [choice]}).encode(), 0.0
        if not isinstance(answer, tuple):
            with suppress(ConnectionError):  # of a client that has read enough
                for piece in answer:
                    self.wfile.write(piece)
            return
        status, data, wait_s = answer if self.path == "/v1/chat/completions" else (404, b"", 0.0)
        time.sleep(wait_s)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
