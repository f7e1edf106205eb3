"""An object store for tests: moto's server, which speaks S3, on loopback."""

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

__all__ = ["BUCKET", "environment_of", "object_store"]

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
    """A store with an empty bucket, kept in the memory of a process of its own while the block runs.

    Yields the environment in which it is found.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("wb") as log:
        command = [sys.executable, "-c", _SERVE, str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        _make_bucket(url, process)
        yield _ENVIRONMENT | {"AWS_ENDPOINT_URL": url}
    finally:
        process.kill()
        process.wait(30.0)


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=5.0):  # noqa: S310
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "moto's server does not start"
            time.sleep(0.1)


def environment_of(store: dict[str, str]) -> dict[str, str]:
    """The environment of a child process that uses a store."""
    return {**os.environ, **store}
