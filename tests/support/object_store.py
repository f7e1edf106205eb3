"""Object stores for tests, on loopback: moto's server, which speaks S3, and an emulator of Google's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.serving import free_port

__all__ = ["BUCKET", "environment_of", "google_store", "object_store"]

BUCKET = "runs"

_SERVE = "import sys; from moto.server import main; main(['--host', '127.0.0.1', '--port', sys.argv[1]])"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret-canary",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 with an empty bucket, kept in the memory of a process of its own while the block runs.

    Yields the environment in which it is found.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-c", _SERVE, str(port)], folder) as process:
        _wait_for(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), process)  # noqa: S310
        yield _ENVIRONMENT | {"AWS_ENDPOINT_URL": url}


@contextmanager
def google_store(folder: Path) -> Iterator[str]:
    """A Google Cloud Storage with an empty bucket, as `object_store` is an S3. Yields host and port."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--in-memory", "--quiet", "--default-bucket", BUCKET]
    with _running(command, folder) as process:
        _wait_for(urllib.request.Request(f"http://127.0.0.1:{port}/storage/v1/b/{BUCKET}"), process)
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "store.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30.0)


def _wait_for(request: urllib.request.Request, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5.0):  # noqa: S310
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "the store does not start"
            time.sleep(0.1)


def environment_of(store: dict[str, str]) -> dict[str, str]:
    """The environment of a child process that uses a store."""
    return {**os.environ, **store}
