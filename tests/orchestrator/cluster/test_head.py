"""Where a cluster's head is, and whether it still answers."""

import socket
from collections.abc import Iterator

import pytest

from orchestrator.cluster.head import Head, find_address, knock
from orchestrator.errors import UnreachableError, UsageError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_is_taken_as_it_is() -> None:
    assert find_address("10.0.0.1:6379") == "10.0.0.1:6379"


@pytest.mark.parametrize("wish", ["somewhere", "10.0.0.1:", "10.0.0.1:head", ""])
def test_what_is_no_address_is_bad_usage(wish: str) -> None:
    with pytest.raises(UsageError, match="must be auto or HOST:PORT"):
        find_address(wish)


def test_auto_is_the_address_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.9:6379")

    assert find_address("auto") == "192.0.2.9:6379"


def test_auto_without_a_cluster_is_unreachable_and_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", frozenset)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: None)

    with pytest.raises(UnreachableError, match=r"no Ray cluster runs on this machine.*ray start --address"):
        find_address("auto")


def test_a_head_that_answers_is_not_lost_however_long_it_takes(server: socket.socket) -> None:
    clock = Clock()
    knock(address(server))
    head = Head(address(server), clock=clock)

    for clock.now in range(0, 300, 5):
        assert not head.lost()


def test_a_head_that_is_gone_is_lost_once_patience_ends_and_not_before(server: socket.socket) -> None:
    clock = Clock()
    head = Head(address(server), patience_seconds=40.0, clock=clock)
    server.close()

    verdicts = {}
    for clock.now in range(0, 60, 5):
        verdicts[clock.now] = head.lost()

    assert [now for now, lost in verdicts.items() if lost] == [45, 50, 55]
    assert verdicts[55] == {f"head at {head._address}"}


def test_a_head_that_comes_back_is_not_lost() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()
        head = Head(address(server), patience_seconds=40.0, clock=clock)
    for clock.now in range(0, 39, 3):
        assert not head.lost()
    with socket.create_server(where):
        clock.now = 42.0
        assert not head.lost()
    clock.now = 80.0

    assert not head.lost()
