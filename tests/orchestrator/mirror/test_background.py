"""The thread beside the trials: it follows, it never raises, it gives up in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import FencedError, UnreachableError
from orchestrator.mirror.background import Background
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.tracker import RunStatus
from tests.support.mirroring import MemoryServer, RecordedSweep, unreachable

PATIENCE_SECONDS = 20.0


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class StubMirror(Mirror):
    """A mirror whose synchronisations do what a test says."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act
        self.syncs = 0
        self.closed_as: list[RunStatus | None] = []

    @property
    def name(self) -> str:
        return "digits"

    @property
    def address(self) -> str:
        return "/runs/digits"

    def sync(self) -> Synced:
        self.syncs += 1
        self.act()
        return Synced()

    def close(self, status: RunStatus | None = None) -> Synced:
        self.closed_as.append(status)
        self.act()
        return Synced()

    def backlog(self) -> int:
        return 3


def fail() -> None:
    raise UnreachableError("the server is down")


def test_it_looks_at_once_and_whenever_woken() -> None:
    mirror = StubMirror()

    with Background(mirror, interval_seconds=1000.0) as background:
        wait_until(lambda: mirror.syncs == 1)
        background.wake()
        wait_until(lambda: mirror.syncs == 2)


def test_it_looks_again_after_the_interval() -> None:
    mirror = StubMirror()

    with Background(mirror, interval_seconds=0.001):
        wait_until(lambda: mirror.syncs > 3)


def test_it_rests_longer_than_it_works() -> None:
    mirror = StubMirror(lambda: time.sleep(0.05))

    with Background(mirror, interval_seconds=0.001):
        time.sleep(0.6)
        looks = mirror.syncs

    assert looks <= 4


def test_leaving_mirrors_a_last_time_with_the_sweep_ended() -> None:
    mirror = StubMirror()

    with Background(mirror, interval_seconds=1000.0):
        assert mirror.closed_as == []

    assert mirror.closed_as == [None]


def test_who_has_lost_the_sweep_shows_it_as_ended_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    mirror = StubMirror()

    with pytest.raises(FencedError), Background(mirror, interval_seconds=1000.0):
        wait_until(lambda: mirror.syncs == 1)
        mirror.act = fail
        raise FencedError("lost")

    assert mirror.closed_as == []
    assert caplog.records == []


def test_waking_returns_at_once_while_the_server_hangs() -> None:
    hang = threading.Event()
    with Background(StubMirror(lambda: hang.wait(PATIENCE_SECONDS) and None), 0.001) as background:
        begun = time.monotonic()
        for _ in range(1000):
            background.wake()
        took_seconds = time.monotonic() - begun
        hang.set()

    assert took_seconds < 1.0


def test_an_outage_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    mirror = StubMirror(fail)

    with Background(mirror, interval_seconds=0.001) as background:
        wait_until(lambda: mirror.syncs > 3)
        during = background.last_error
        mirror.act = lambda: None
        wait_until(lambda: background.last_error is None)

    assert during == "the server is down"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_an_unexpected_error_stays_in_the_thread_and_is_logged_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("a bug")

    with Background(StubMirror(break_down), interval_seconds=0.001) as background:
        wait_until(lambda: background.last_error is not None)

    assert "ZeroDivisionError: a bug" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None


def test_failures_are_spaced_ever_wider() -> None:
    mirror = StubMirror(fail)

    with Background(mirror, interval_seconds=0.01):
        time.sleep(0.5)
        tries = mirror.syncs

    assert 2 <= tries <= 6


def test_leaving_does_not_wait_for_a_server_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    hang = threading.Event()
    mirror = StubMirror(lambda: hang.wait(PATIENCE_SECONDS) and None)

    begun = time.monotonic()
    with Background(mirror, interval_seconds=0.001, grace_seconds=0.05):
        wait_until(lambda: mirror.syncs == 1)
    took_seconds = time.monotonic() - begun
    hang.set()

    assert took_seconds < 2.0
    assert "lacks 3 trial(s) of digits; `cpsc-orchestrate sync /runs/digits` sends them" in caplog.text


def test_a_pause_ends_when_the_block_is_left() -> None:
    begun = time.monotonic()
    for act in (fail, lambda: None):
        mirror = StubMirror(act)
        with Background(mirror, interval_seconds=1000.0):
            wait_until(lambda mirror=mirror: mirror.syncs == 1)

    assert time.monotonic() - begun < PATIENCE_SECONDS


def test_what_was_missed_during_an_outage_arrives_after_it(tmp_path: Path) -> None:
    sweep, server = RecordedSweep(tmp_path), MemoryServer(before=unreachable)
    mirror = Mirror("http://tracking.example", sweep.paths, connect=server.open)

    with Background(mirror, interval_seconds=0.001) as background:
        sweep.example()
        wait_until(lambda: background.last_error is not None)
        lacked = background.backlog
        server.before = lambda _: None
        wait_until(lambda: background.last_error is None)

    assert lacked == 6
    assert len(server.shown()) == 7
    assert mirror.backlog() == 0
