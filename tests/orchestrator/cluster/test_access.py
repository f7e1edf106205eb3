"""Nobody but the sweep speaks to its Ray, and the sweep to nobody's Ray without a token."""

from __future__ import annotations

import http.client
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from orchestrator.cluster.access import token_file, token_for
from orchestrator.cluster.scratch import new_scratch
from orchestrator.cluster.session import open_cluster
from orchestrator.errors import UsageError

BEYOND = "192.0.2.250:6379"
ANY = ("::", "0.0.0.0")  # noqa: S104
VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and an environment that says nothing of one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_the_token_of_a_private_ray_is_its_own_and_nobody_elses_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of a cluster")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/of/a/cluster")
    before = os.umask(0)
    try:
        with token_for(None, tmp_path):
            inside = {name: os.environ.get(name) for name in VARIABLES}
    finally:
        os.umask(before)

    assert inside == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len((tmp_path / "token").read_text()) == 64
    assert [os.environ.get(name) for name in VARIABLES] == [None, "of a cluster", "/of/a/cluster"]


def test_every_private_ray_has_another_token(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(3):
        with token_for(None, tmp_path):
            tokens.add((tmp_path / "token").read_text())

    assert len(tokens) == 3


def test_a_link_in_the_place_of_the_token_is_not_written_through(tmp_path: Path) -> None:
    (precious := tmp_path / "precious").write_text("mine")
    (tmp_path / "token").symlink_to(precious)

    with token_for(None, tmp_path):
        pass

    assert precious.read_text() == "mine"


@pytest.mark.parametrize("mode", ["disabled", "Disabled"])
@pytest.mark.parametrize("address", [None, "127.0.0.1:6379", BEYOND])
def test_a_ray_that_is_open_to_everybody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, mode: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")

    with pytest.raises(UsageError, match=r"RAY_AUTH_MODE=disabled opens Ray's ports.*; unset it$"):
        token_for(address, tmp_path).__enter__()


@pytest.mark.parametrize("environment", [{}, {"RAY_AUTH_TOKEN_PATH": "/nowhere"}, {"RAY_AUTH_TOKEN": ""}])
def test_a_cluster_beyond_this_machine_is_not_even_looked_for_without_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with (
        pytest.raises(UsageError, match=f"there is none for {BEYOND}; .*RAY_AUTH_TOKEN_PATH$"),
        open_cluster(BEYOND, tmp_path),
    ):
        pass


@pytest.mark.parametrize("place", ["variable", "named file", "usual file"])
def test_a_token_that_is_there_is_shown_to_the_cluster(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (home / ".ray").mkdir(parents=True)
    if place == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    elif place == "usual file":
        (home / ".ray" / "auth_token").write_text("x")
    else:
        (tmp_path / "t").write_text("x")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "t"))

    with token_for(BEYOND, tmp_path):
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379"])
def test_a_ray_of_this_machine_may_have_no_token(tmp_path: Path, address: str) -> None:
    with token_for(address, tmp_path):
        assert "RAY_AUTH_MODE" not in os.environ


def test_the_usual_place_of_the_token_is_in_the_home_folder(home: Path) -> None:
    assert token_file({}) == home / ".ray" / "auth_token"


JOIN = """
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
print("joined")
"""


@pytest.fixture(scope="module")
def private() -> Iterator[tuple[Path, str]]:
    """A private Ray that has run something: its folder and its address."""
    import ray

    scratch, before = new_scratch(), os.umask(0)
    try:
        with open_cluster(None, scratch):
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
            yield scratch, ray.get_runtime_context().gcs_address
    finally:
        os.umask(before)
    assert not scratch.exists()


def processes(scratch: Path) -> list[psutil.Process]:
    """Everything that belongs to a private Ray, this process included."""
    mine = psutil.Process()
    return [mine, *mine.children(recursive=True), *_with_word(str(scratch))]


def _with_word(word: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if any(word in each for each in process.cmdline()):
                yield process
        except psutil.Error:
            continue


def listening(scratch: Path) -> set[tuple[str, int]]:
    found = set()
    for process in processes(scratch):
        try:
            found |= {
                tuple(each.laddr) for each in process.net_connections("inet") if each.status == "LISTEN"
            }
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_nobody_listens_but_those_that_are_told_of(private: tuple[Path, str]) -> None:
    scratch, _ = private

    names = {each.name() for each in processes(scratch) if _listens(each)} - {psutil.Process().name()}

    assert {"gcs_server", "raylet"} <= names
    assert {name for name in names - {"gcs_server", "raylet"} if not name.startswith("ray::")} == set()


def _listens(process: psutil.Process) -> bool:
    try:
        return any(each.status == "LISTEN" for each in process.net_connections("inet"))
    except psutil.Error:
        return False


def answer(host: str, port: int, method: str, path: str) -> int | None:
    """The status with which a port answers somebody who has no token; None: it does not speak HTTP."""
    own = host if host not in ANY else "127.0.0.1"
    connection = http.client.HTTPConnection(own, port, timeout=5.0)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.mark.slow
def test_a_private_ray_lies_in_a_folder_that_nobody_else_may_enter(private: tuple[Path, str]) -> None:
    scratch, _ = private

    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert stat.S_IMODE((scratch / "token").stat().st_mode) == 0o600
    assert scratch.parent == Path(tempfile.gettempdir())


@pytest.mark.slow
def test_nothing_of_a_private_ray_answers_who_has_no_token(private: tuple[Path, str]) -> None:
    scratch, _ = private
    questions = [
        ("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("GET", "/api/version"), ("GET", "/"),
        ("POST", "/get_or_create_runtime_env"), ("GET", "/worker/cpu_profile?pid=1"), ("GET", "/logs"),
    ]  # fmt: skip

    ports = listening(scratch)
    answers = {(*port, *question): answer(*port, *question) for port in ports for question in questions}

    assert ports
    assert {what: status for what, status in answers.items() if status not in (None, 401, 403)} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "joins"),
    [({}, False), ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, False), (None, True)],
)
def test_a_driver_joins_with_the_token_only(
    private: tuple[Path, str], given: Mapping[str, str] | None, joins: bool, tmp_path: Path
) -> None:
    scratch, address = private
    given = given if given is not None else {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(scratch / "token"),
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env=environment | {"HOME": str(tmp_path)} | given,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert ("joined" in done.stdout) is joins, done.stderr
    assert joins or "ConnectionError" in done.stderr


@pytest.mark.slow
def test_the_token_is_in_its_file_and_nowhere_else(private: tuple[Path, str]) -> None:
    scratch, _ = private
    token = (scratch / "token").read_bytes()
    titles = [Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in processes(scratch)]
    holders = [path for path in scratch.rglob("*") if path.is_file() and token in path.read_bytes()]

    assert len(titles) > 3
    assert not any(token in title for title in titles)
    assert holders == [scratch / "token"]
