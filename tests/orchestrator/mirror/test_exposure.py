"""What a stranger gets from the MLflow server of a storage folder, and what a strange server gets from us."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from orchestrator.doctor.reach import examine_mlflow
from orchestrator.errors import ConfigError, UnreachableError
from orchestrator.mirror.server import ui_command
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.uri import default_uri
from orchestrator.store.paths import StoragePaths
from tests.support.mirroring import RecordedSweep
from tests.support.serving import free_port, serving

API = "/api/2.0/mlflow"
CANARY = "CANARY-7f3a"


@dataclass(frozen=True)
class Answer:
    status: int
    content: bytes


def ask(
    url: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request, sent as it is: nothing in the path is tidied up."""
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=30.0)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"} | dict(headers or {}))
    answer = connection.getresponse()
    found = Answer(answer.status, answer.read())
    connection.close()
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A server that shows a mirrored sweep: its address, a run, and the folder around the storage."""
    around = tmp_path_factory.mktemp("around")
    (around / "secret.txt").write_text(CANARY)
    sweep = RecordedSweep(around / "storage")
    storage = sweep.paths.storage
    trial = sweep.finished(0)
    Mirror(default_uri(storage), sweep.paths).close()
    run = json.loads(trial.mirror.read_text())[default_uri(storage)]["run_id"]
    with serving(*ui_command(storage, None, port=free_port()), log=around / "server.log") as url:
        yield url, run, around


pytestmark = pytest.mark.slow


def test_it_listens_on_this_machine_alone(shown: tuple[str, str, Path]) -> None:
    url, _, _ = shown
    port = urlsplit(url).port

    hosts = {
        each.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for each in process.net_connections("inet")
        if each.status == "LISTEN" and each.laddr.port == port
    }

    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "169.254.169.254"])
def test_a_name_that_was_bent_to_this_machine_is_refused(shown: tuple[str, str, Path], host: str) -> None:
    url, _, _ = shown

    assert ask(url, "GET", f"{API}/experiments/get?experiment_id=0", headers={"Host": host}).status == 403


def test_another_sites_script_is_refused(shown: tuple[str, str, Path]) -> None:
    url, _, _ = shown

    answer = ask(url, "POST", f"{API}/experiments/create", {"name": "x"}, {"Origin": "https://evil.example"})

    assert answer.status == 403


@pytest.mark.parametrize(
    "path",
    [
        "../../../../secret.txt", "..%2F..%2F..%2F..%2Fsecret.txt", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "..%252F..%252F..%252F..%252Fsecret.txt", "images/../../../../../secret.txt", "/etc/passwd",
        "%2Fetc%2Fpasswd", "file:///etc/passwd", "..\\..\\..\\..\\secret.txt", "#/../../../../secret.txt",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "endpoint", ["/get-artifact?run_uuid={run}&path={path}", API + "/artifacts/list?run_id={run}&path={path}"]
)
def test_no_path_leads_out_of_a_runs_files(shown: tuple[str, str, Path], endpoint: str, path: str) -> None:
    url, run, _ = shown

    answer = ask(url, "GET", endpoint.format(run=run, path=path))

    assert answer.status in (400, 403, 404, 500) or b"files" not in answer.content
    assert CANARY.encode() not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ajax-api/3.0/jobs"), ("POST", "/ajax-api/3.0/jobs/"), ("GET", "/ajax-api/3.0/jobs/1"),
        ("PATCH", "/ajax-api/3.0/jobs/cancel/1"), ("POST", "/ajax-api/3.0/mlflow/scorers/online-configs"),
        ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    ],
)  # fmt: skip
def test_it_runs_no_jobs(shown: tuple[str, str, Path], method: str, path: str) -> None:
    url, _, _ = shown
    job = {"job_name": "invoke_scorer", "function_fullname": "os.system", "params": {"command": "true"}}

    assert ask(url, method, path, job).status >= 400
    assert json.loads(ask(url, "POST", "/ajax-api/3.0/jobs/search", {}).content) == {"jobs": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/2.0/mlflow-artifacts/artifacts"), ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x.txt")],
)
def test_it_takes_and_gives_no_files_but_those_of_runs(
    shown: tuple[str, str, Path], method: str, path: str
) -> None:
    url, _, around = shown

    assert ask(url, method, path, {"x": 1}).status >= 400
    assert not list(around.rglob("x.txt"))


def test_files_of_new_experiments_lie_in_the_storage_folder(shown: tuple[str, str, Path]) -> None:
    url, _, around = shown

    made = ask(url, "POST", f"{API}/experiments/create", {"name": "new"})
    number = json.loads(made.content)["experiment_id"]
    found = json.loads(ask(url, "GET", f"{API}/experiments/get?experiment_id={number}").content)

    place = found["experiment"]["artifact_location"]
    assert place.startswith(StoragePaths(around / "storage").mlflow_artifacts.as_uri())


def test_whoever_has_an_account_on_this_machine_can_have_it_read_files(shown: tuple[str, str, Path]) -> None:
    """MLflow asks no local client who it is: SECURITY.md says so, and this says when it is no longer true."""
    url, _, around = shown
    wish = {"name": "outside", "artifact_location": around.as_uri()}

    number = json.loads(ask(url, "POST", f"{API}/experiments/create", wish).content)["experiment_id"]
    run = json.loads(ask(url, "POST", f"{API}/runs/create", {"experiment_id": number}).content)["run"]["info"]
    files = Path(urlsplit(run["artifact_uri"]).path)
    files.mkdir(parents=True)
    (files / "secret.txt").write_text(CANARY)

    assert files.is_relative_to(around)
    assert not files.is_relative_to(around / "storage")
    found = ask(url, "GET", f"/get-artifact?run_uuid={run['run_id']}&path=secret.txt")
    assert found.content == CANARY.encode()


@dataclass
class Elsewhere:
    """Two servers: what comes to the first is sent on to the second, which nobody should ever ask."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def sending_elsewhere(status: int) -> Iterator[Elsewhere]:
    found = Elsewhere()

    def handler(act: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                act(self)

            do_POST = do_PUT = do_PATCH = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def note(request: BaseHTTPRequestHandler) -> None:
        found.asked.append(f"{request.path} {dict(request.headers)}")
        request.send_response(200)
        request.end_headers()

    canary = ThreadingHTTPServer(("127.0.0.1", 0), handler(note))

    def send_on(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header(
            "Location", f"http://127.0.0.1:{canary.server_port}/latest/meta-data{request.path}"
        )
        request.send_header("Content-Length", "0")
        request.end_headers()

    first = ThreadingHTTPServer(("127.0.0.1", 0), handler(send_on))
    found.url = f"http://127.0.0.1:{first.server_port}"
    for server in (first, canary):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    for server in (first, canary):
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nobody_is_asked_to_whom_a_server_sends_us_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    sweep = RecordedSweep(tmp_path / "storage")
    sweep.finished(0)

    with sending_elsewhere(status) as elsewhere:
        with pytest.raises(UnreachableError) as refused:
            Mirror(elsewhere.url, sweep.paths).close()
        examine_mlflow([elsewhere.url])

    assert elsewhere.asked == []
    assert CANARY not in str(refused.value)


def test_a_password_is_not_sent_for_everybody_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    sweep = RecordedSweep(tmp_path / "storage")
    sweep.finished(0)

    with pytest.raises(ConfigError, match="would send MLFLOW_TRACKING_PASSWORD over plain http") as refused:
        Mirror("http://mlflow.example:5000", sweep.paths).sync()

    assert CANARY not in str(refused.value)
