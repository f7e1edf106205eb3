from __future__ import annotations

import threading
import time

import pytest

from orchestrator.errors import FencedError
from orchestrator.keeper import Keeper


def test_it_updates_no_more_often_than_the_interval_and_once_on_leaving() -> None:
    updates: list[float] = []

    with Keeper("test", lambda: updates.append(time.monotonic()), interval_seconds=0.1, grace_seconds=5.0):
        time.sleep(0.45)

    assert 3 <= len(updates) <= 6


def test_leaving_updates_without_waiting_for_the_interval() -> None:
    updates: list[int] = []

    with Keeper("test", lambda: updates.append(1), interval_seconds=1000.0, grace_seconds=5.0):
        pass

    assert updates == [1]


def test_updates_that_take_long_are_made_less_often_than_the_interval() -> None:
    updates: list[None] = []

    with Keeper("test", lambda: updates.append(time.sleep(0.05)), interval_seconds=0.01, grace_seconds=5.0):
        time.sleep(0.6)

    assert len(updates) == 2  # after the interval and on leaving: there would be a second between


def test_leaving_does_not_wait_for_an_update_that_hangs() -> None:
    hang = threading.Event()

    begun = time.monotonic()
    with Keeper("test", lambda: hang.wait(20.0), interval_seconds=1000.0, grace_seconds=0.05):
        pass
    took_seconds = time.monotonic() - begun
    hang.set()

    assert took_seconds < 5.0


def test_who_has_lost_the_sweep_updates_nothing_more() -> None:
    updates: list[int] = []

    with (
        pytest.raises(FencedError),
        Keeper("test", lambda: updates.append(1), interval_seconds=1000.0, grace_seconds=5.0),
    ):
        raise FencedError("lost")

    assert updates == []
