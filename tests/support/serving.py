"""MLflow servers for tests, and a proxy before them that breaks in every way a network does."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from orchestrator.mirror.server import ui_command
from orchestrator.store.paths import StoragePaths

__all__ = ["Fault", "FaultProxy", "free_port", "mlflow_server", "serving"]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run a server while the block runs; yields its address."""
    url = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=file, stderr=file, cwd=log.parent, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 150.0
            while not _answers(f"{url}/health"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30.0)


@contextmanager
def mlflow_server(folder: Path, uri: str) -> Iterator[str]:
    """A server that keeps runs at `uri` and files below `folder`; yields its address."""
    folder.mkdir(parents=True, exist_ok=True)
    _, environment = ui_command(StoragePaths(folder), None)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "files"), "--host", "127.0.0.1"]
    with serving([*command, "--port", str(free_port())], environment, folder / "server.log") as url:
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What becomes of one request."""

    carried_out: bool = False
    """Whether the server hears of it."""
    answer: int | None = None
    """Status that the client is given in place of the server's; None: the line is cut."""
    delay_seconds: float = 0.0
    """How long the client waits first."""


@dataclass
class FaultProxy:
    """Passes requests on to a server; a share of them meets a fault, chosen by a seed."""

    target: str
    faults: Sequence[Fault] = ()
    share: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    met: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy._pass_on(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        fault = self.chance.choice(self.faults) if self.chance.random() < self.share else None
        status, headers, content = 0, [], b""
        if fault is None or fault.carried_out:
            status, headers, content = self._ask(client, body)
        if fault is not None:
            self.met.append(fault)
            time.sleep(fault.delay_seconds)
            if fault.answer is None and not fault.delay_seconds:
                client.close_connection = True
                return
            if fault.answer is not None:
                status, headers, content = fault.answer, [], b'{"error_code": "INTERNAL_ERROR"}'
        client.send_response(status)
        for key, value in headers:
            if key.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                client.send_header(key, value)
        client.send_header("Content-Length", str(len(content)))
        client.end_headers()
        client.wfile.write(content)

    def _ask(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        host = self.target.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        headers = {key: value for key, value in client.headers.items() if key.lower() != "host"}
        connection.request(client.command, client.path, body, headers | {"Host": host})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content
