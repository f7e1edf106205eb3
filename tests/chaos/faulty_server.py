"""A tracking server that is down, slow, or answers errors."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self

__all__ = ["FaultyServer"]

_SLOW_SECONDS = 20.0
_ERRORS = (
    (500, b"{}"),
    (503, b"<html>try again later</html>"),
    (429, b""),
    (200, b"this is not JSON"),
    (404, b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no such thing"}'),
)


class FaultyServer:
    """Listens, unless it is down, on a port of this machine, and never gives an answer that helps."""

    def __init__(self, kind: Literal["down", "slow", "errors"]) -> None:
        self.requests = 0
        if kind == "down":
            self._server = None
            self.url = f"http://127.0.0.1:{_closed_port()}"
            return
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(kind))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        if self._server is not None:
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self, kind: str) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                server.requests += 1
                if kind == "slow":
                    time.sleep(_SLOW_SECONDS)
                status, body = _ERRORS[server.requests % len(_ERRORS)] if kind == "errors" else (500, b"{}")
                with suppress(OSError):  # nobody may be waiting for it any more
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
