import socket
import time
from pathlib import Path

import pytest

from orchestrator.cluster import open_cluster
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
