"""The MLflow server of a storage folder, and mirroring through a server over a bad line."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, OrchestratorError, UsageError
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.server import ui_command
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.uri import default_uri
from orchestrator.store.paths import StoragePaths
from tests.support.mirroring import MemoryServer, RecordedSweep, assert_same_but_for_the_clock
from tests.support.mlflow_view import shown


def option(command: Sequence[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_server_listens_on_this_machine_and_runs_nothing(tmp_path: Path) -> None:
    storage = StoragePaths(tmp_path)

    command, environment = ui_command(storage, None, port=5001)

    assert command[0] == sys.executable
    assert option(command, "--host") == "127.0.0.1"
    assert option(command, "--port") == "5001"
    assert option(command, "--backend-store-uri") == default_uri(storage)
    assert option(command, "--default-artifact-root") == storage.mlflow_artifacts.as_uri()
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"
    assert environment.items() >= {("PATH", os.environ["PATH"])}


def test_the_environment_cannot_switch_the_safe_choices_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")

    _, environment = ui_command(StoragePaths(tmp_path), None)

    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_settings_are_ones_that_mlflow_knows(tmp_path: Path) -> None:
    import mlflow.environment_variables as known

    _, environment = ui_command(StoragePaths(tmp_path), None)

    ours = {name for name in environment.keys() - os.environ.keys() if name.startswith("MLFLOW_")}
    assert ours <= vars(known).keys()


def test_a_server_needs_no_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"open https://mlflow\.example in a browser"):
        ui_command(StoragePaths(tmp_path), "https://mlflow.example")
    with pytest.raises(ConfigError, match="carries credentials"):
        ui_command(StoragePaths(tmp_path), "postgresql://me:hunter2@db/x")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run a server while the block runs; yields its address."""
    url = f"http://127.0.0.1:{option(command, '--port')}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=file, stderr=file, cwd=log.parent, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 90.0
            while not answers(f"{url}/health"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30.0)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, question: Mapping[str, object] | None = None) -> bytes:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30.0) as answer:  # noqa: S310
        return bytes(answer.read())


@pytest.mark.slow
def test_a_person_can_browse_what_was_mirrored(tmp_path: Path, make_database: Callable[[Path], str]) -> None:
    sweep = RecordedSweep(tmp_path / "storage")
    storage = sweep.paths.storage
    make_database(storage.mlflow_database)
    trial = sweep.finished(0)
    Mirror(default_uri(storage), sweep.paths).close()

    with serving(*ui_command(storage, None, port=free_port()), log=tmp_path / "server.log") as url:
        found = json.loads(ask(f"{url}/api/2.0/mlflow/experiments/search", {"max_results": 10}))
        names = {each["name"]: each["experiment_id"] for each in found["experiments"]}
        runs = json.loads(ask(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": [names["digits"]]}))[
            "runs"
        ]
        (run_id,) = (run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "trial-000")
        images = json.loads(ask(f"{url}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=images"))["files"]
        grid = next(each["path"] for each in images if each["path"].endswith(".png"))
        picture = ask(f"{url}/get-artifact?run_uuid={run_id}&path={grid.replace('+', '%2B')}")
        page = ask(url)

    assert len(runs) == 2
    assert json.loads(trial.mirror.read_text())[default_uri(storage)]["run_id"] == run_id
    assert picture.startswith(b"\x89PNG")
    assert b"MLflow" in page


class BadLine:
    """A proxy that loses every so many requests, half of them only after they were carried out."""

    def __init__(self, target: str, chance: random.Random) -> None:
        line = self
        self.target = target.removeprefix("http://")
        self.chance = chance
        self.loss = 0.0
        self.lost = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                line.pass_on(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pass_on(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        fate = self.chance.random()
        if fate >= self.loss / 2:
            connection = http.client.HTTPConnection(self.target, timeout=30)
            headers = {key: value for key, value in client.headers.items() if key.lower() != "host"}
            connection.request(client.command, client.path, body, headers | {"Host": self.target})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        if fate < self.loss:
            self.lost += 1
            client.close_connection = True
            return
        client.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                client.send_header(key, value)
        client.send_header("Content-Length", str(len(content)))
        client.end_headers()
        client.wfile.write(content)


@pytest.mark.slow
def test_a_bad_line_to_a_server_doubles_and_loses_nothing(
    tmp_path: Path, make_database: Callable[[Path], str]
) -> None:
    uri = make_database(tmp_path / "server" / "mlflow.db")
    images = ["--artifacts-destination", str(tmp_path / "server" / "images")]
    port = ["--host", "127.0.0.1", "--port", str(free_port()), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *images, *port]
    _, environment = ui_command(StoragePaths(tmp_path), None)
    sweep, memory = RecordedSweep(tmp_path / "storage"), MemoryServer()
    sweep.example()
    sweep.note(finished="complete")

    with serving(command, environment, tmp_path / "server.log") as url:
        line = BadLine(url, random.Random(0))
        line.loss = 0.15
        mirror = Mirror(line.url, sweep.paths)
        for _ in range(200):
            try:
                mirror.sync()
                break
            except OrchestratorError:
                continue
        line.loss = 0.0
        again = Mirror(line.url, sweep.paths).sync()
        runs = shown(line.url, sweep.name)
        line.server.shutdown()

    Mirror("http://memory", sweep.paths, connect=memory.open).sync()
    assert line.lost > 5
    assert again == Synced()
    assert_same_but_for_the_clock(runs, memory.shown())
