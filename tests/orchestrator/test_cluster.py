import os
import socket
import stat
import time
from pathlib import Path

import pytest

from orchestrator.cluster import Cluster, Node, open_cluster
from orchestrator.errors import UnreachableError, UsageError
from orchestrator.trial.assignment import Shape


def cluster(*nodes: tuple[float, float]) -> Cluster:
    return Cluster(
        nodes=tuple(Node(host=f"n{i}", cpus=cpus, gpus=gpus) for i, (cpus, gpus) in enumerate(nodes))
    )


@pytest.mark.parametrize(
    ("nodes", "shape", "slots"),
    [
        ([(2, 0)], Shape(workers=1, cpus=1, gpus=0), 2),
        ([(2, 0)], Shape(workers=2, cpus=1, gpus=0), 1),
        ([(8, 0)], Shape(workers=1, cpus=3, gpus=0), 2),
        ([(3, 0), (3, 0)], Shape(workers=1, cpus=2, gpus=0), 2),
        ([(3, 0), (3, 0)], Shape(workers=2, cpus=2, gpus=0), 1),
        ([(16, 4)], Shape(workers=1, cpus=1, gpus=1), 4),
        ([(16, 1)], Shape(workers=1, cpus=1, gpus=0.5), 2),
        ([(2, 4)], Shape(workers=1, cpus=1, gpus=1), 2),
        ([(16, 10)], Shape(workers=1, cpus=1, gpus=0.1), 16),
        ([(16, 2)], Shape(workers=1, cpus=1, gpus=0.4), 4),
        ([(16, 2)], Shape(workers=1, cpus=1, gpus=0.6), 2),
        ([(16, 3)], Shape(workers=1, cpus=1, gpus=2), 1),
    ],
)
def test_slots_follow_from_what_fits_on_each_machine(
    nodes: list[tuple[float, float]], shape: Shape, slots: int
) -> None:
    assert cluster(*nodes).slots(shape) == slots


@pytest.mark.parametrize(
    ("nodes", "shape", "missing"),
    [
        ([(2, 0), (4, 0)], Shape(workers=1, cpus=8, gpus=0), "4 CPU(s) on one node"),
        ([(2, 1), (4, 1)], Shape(workers=1, cpus=1, gpus=2), "1 GPU(s) on one node"),
        ([(2, 0)], Shape(workers=2, cpus=4, gpus=1), "2 CPU(s) and 1 GPU(s) on one node"),
        ([(2, 0), (2, 0)], Shape(workers=5, cpus=1, gpus=0), "room for 1 rank(s)"),
        ([(8, 0), (1, 4)], Shape(workers=1, cpus=4, gpus=1), "a node that has both at once"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_and_what_is_missing_is_named(
    nodes: list[tuple[float, float]], shape: Shape, missing: str
) -> None:
    with pytest.raises(UsageError) as refused:
        cluster(*nodes).slots(shape)

    assert f"needs {shape.workers} rank(s) of {shape.cpus} CPU(s) and {shape.gpus:g} GPU(s)" in str(
        refused.value
    )
    assert f"; missing: {missing}; lower resources.workers" in str(refused.value)


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
    with pytest.raises(UsageError, match="must be HOST:PORT"), open_cluster("somewhere", tmp_path):
        pass


def test_the_token_of_a_private_ray_is_its_own_and_nobody_elses_to_read(tmp_path: Path) -> None:
    from orchestrator.cluster import _make_token

    before = os.environ.copy()
    old = os.umask(0)
    try:
        _make_token(tmp_path / "scratch")
    finally:
        os.umask(old)
        os.environ.clear()
        os.environ.update(before)

    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "scratch" / "token").stat().st_mode) == 0o600
