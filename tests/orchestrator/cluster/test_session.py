import socket
import time
from pathlib import Path

import pytest

from orchestrator.cluster.session import open_cluster
from orchestrator.errors import UnreachableError, UsageError


def test_a_cluster_that_nobody_answers_for_is_unreachable_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()

    with (
        pytest.raises(
            UnreachableError, match=f"no Ray cluster answers at 127.0.0.1:{port}.*RAY_AUTH_TOKEN_PATH"
        ),
        open_cluster(f"127.0.0.1:{port}", tmp_path),
    ):
        pass
    assert time.monotonic() - began < 10


def test_an_address_without_a_port_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be auto or HOST:PORT"), open_cluster("somewhere", tmp_path):
        pass


def test_a_ray_that_does_not_start_is_told_in_one_line_whatever_it_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nAnd more")

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    with pytest.raises(
        UnreachableError,
        match=r"^Ray did not start on this machine: The current node timed out during startup",
    ):
        open_cluster(None, tmp_path).__enter__()
