"""What lies beyond this machine, and whether it answers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.doctor.check import Verdict
from orchestrator.doctor.reach import examine_cluster, examine_mlflow, tracking_uris
from tests.support.folders import MadeSweep

OURS = metadata.version("mlflow")


@contextmanager
def answering(status: int, text: str = "") -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "verdict", "told"),
    [
        (200, OURS, Verdict.OK, f"version {OURS}"),
        (200, "2.1.0", Verdict.WARN, f"has version 2.1.0, here is {OURS}"),
        (401, "", Verdict.WARN, "answers 401"),
        (500, "", Verdict.WARN, "answers 500"),
    ],
)
def test_a_server_is_asked_for_its_version(status: int, text: str, verdict: Verdict, told: str) -> None:
    with answering(status, text) as url:
        (check,) = examine_mlflow([url])

    assert check.verdict is verdict
    assert told in check.finding
    assert (check.advice is None) == (verdict is Verdict.OK)


def test_a_server_that_can_be_overheard_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.doctor.reach.is_in_the_clear", lambda uri: True)

    with answering(200, OURS) as url:
        (check,) = examine_mlflow([url])

    assert check.verdict is Verdict.WARN
    assert "is plain http" in check.finding


def test_a_refusal_names_the_credentials() -> None:
    with answering(403) as url:
        (check,) = examine_mlflow([url])

    assert "MLFLOW_TRACKING_USERNAME" in (check.advice or "")


def test_a_server_that_is_down_is_no_obstacle() -> None:
    (check,) = examine_mlflow(["http://127.0.0.1:1"])

    assert check.verdict is Verdict.WARN
    assert "cpsc-orchestrate sync" in (check.advice or "")


def test_a_database_is_looked_into(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    with sqlite3.connect(good) as database:
        database.execute("create table experiments (id integer)")
    bad.write_bytes(b"no database at all, but long enough to have a header" * 10)

    checks = examine_mlflow(f"sqlite:///{path}" for path in (good, bad, tmp_path / "none.db"))

    assert [check.verdict for check in checks] == [Verdict.OK, Verdict.WARN, Verdict.OK]
    assert "0 experiments" in checks[0].finding
    assert "will be made by the first sweep" in checks[2].finding


def test_all_places_that_sweeps_are_mirrored_to_are_looked_at(tmp_path: Path) -> None:
    MadeSweep(tmp_path, name="one", manifest={"tracking_uri": "http://b.example"})
    MadeSweep(tmp_path, name="two", manifest={"tracking_uri": "http://b.example"})
    MadeSweep(tmp_path, name="three", manifest={"tracking_uri": None})

    assert tracking_uris(tmp_path) == [f"sqlite:///{tmp_path}/mlflow.db", "http://b.example"]


def test_no_cluster_is_looked_for_without_an_address() -> None:
    assert examine_cluster(None, Path("/nowhere")) == []


def test_a_cluster_that_does_not_answer_is_told_with_its_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    token.chmod(0o644)

    checks = examine_cluster("127.0.0.1:1", tmp_path, {"RAY_AUTH_TOKEN_PATH": str(token)})

    assert [(check.name, check.verdict) for check in checks] == [
        ("cluster token", Verdict.WARN),
        ("cluster", Verdict.FAIL),
    ]
    assert checks[0].advice == f"chmod 600 {token}"
    assert checks[1].code == 3
    assert "no Ray cluster answers at 127.0.0.1:1" in checks[1].finding
    assert "hunter2" not in str(checks)


@pytest.mark.parametrize(
    ("environment", "verdict"),
    [({"RAY_AUTH_TOKEN": "hunter2"}, Verdict.OK), ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, Verdict.WARN)],
)
def test_a_token_is_looked_for_where_ray_looks(environment: dict[str, str], verdict: Verdict) -> None:
    token, _ = examine_cluster("127.0.0.1:1", Path("/nowhere"), environment)

    assert token.verdict is verdict


def test_a_manifest_that_cannot_be_read_names_no_place(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")

    assert tracking_uris(tmp_path) == [f"sqlite:///{tmp_path}/mlflow.db"]
