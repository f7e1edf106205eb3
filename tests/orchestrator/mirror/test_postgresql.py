"""Several sweeps of a team on one MLflow server with PostgreSQL behind it, as Debian packages it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.sync import Mirror
from tests.support.mirroring import MemoryServer, RecordedSweep, assert_same_but_for_the_clock
from tests.support.mlflow_view import shown
from tests.support.serving import free_port, mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _program(name: str) -> str | None:
    """A program of PostgreSQL's server, which Debian keeps off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _run_as(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: whom it can run as instead."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user to run it as")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """URI of an empty database on a server of its own."""
    pytest.importorskip("psycopg2", reason="the driver psycopg2 is not installed")
    initdb, server, createdb = (_program(name) for name in ("initdb", "postgres", "createdb"))
    if initdb is None or server is None or createdb is None:
        pytest.skip("PostgreSQL is not installed; on Debian: apt install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="cpsc-pg-")), str(free_port())
    who = _run_as(folder)
    data = str(folder / "data")
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, **who}
    made = subprocess.run(
        [initdb, "-D", data, "-U", "mlflow", "-A", "trust", "--no-sync"], check=False, **options
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"initdb does not run here: {made.stderr.strip().splitlines()[-1]}")
    arguments = [server, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", str(folder), "-F"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(arguments, cwd=folder, **quiet, **who)
    try:
        for _ in range(150):
            asked = [createdb, "-h", "127.0.0.1", "-p", port, "-U", "mlflow", "mlflow"]
            if not subprocess.run(asked, capture_output=True, check=False).returncode:
                break
            threading.Event().wait(0.2)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        process.terminate()
        process.wait(30.0)
        shutil.rmtree(folder, ignore_errors=True)


def test_two_sweeps_at_once_lose_and_double_nothing(postgresql: str, tmp_path: Path) -> None:
    sweeps = [RecordedSweep(tmp_path / "storage", name) for name in ("one", "two")]
    for sweep in sweeps:
        sweep.example()
        sweep.note(finished="complete")

    with mlflow_server(tmp_path / "server", postgresql) as url:
        threads = [threading.Thread(target=Mirror(url, sweep.paths).sync) for sweep in sweeps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200.0)
        again = [Mirror(url, sweep.paths).sync() for sweep in sweeps]
        found = [shown(url, sweep.name) for sweep in sweeps]

    assert again == [Synced(), Synced()]
    for sweep, runs in zip(sweeps, found, strict=True):
        memory = MemoryServer()
        Mirror("http://memory", sweep.paths, connect=memory.open).sync()
        assert_same_but_for_the_clock(runs, memory.shown())
