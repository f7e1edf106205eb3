"""One run brought up to date: what is sent, and in how many requests."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.mirror.reconcile import bring_up, create
from orchestrator.mirror.tracker import Point, RunStatus
from orchestrator.mirror.wanted import WantedRun
from tests.support.mirroring import MemoryServer, MemoryTracker


class CountingTracker(MemoryTracker):
    """Remembers the size of every request and the epochs in it."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.sizes: list[int] = []
        self.steps: list[set[int]] = []

    def send(self, run_id, points, params, tags):  # type: ignore[no-untyped-def]
        self.sizes.append(len(points) + len(params) + len(tags))
        self.steps.append({point.step for point in points})
        super().send(run_id, points, params, tags)


def wanted(points: list[Point], **more: object) -> WantedRun:
    plain = {
        "name": "trial-000",
        "started": 1,
        "ended": None,
        "status": RunStatus.RUNNING,
        "tags": {"a": "1"},
    }
    return WantedRun(**plain | {"params": {"b": "2"}, "points": points} | more)  # type: ignore[arg-type]


def line(epoch: int, num_metrics: int) -> list[Point]:
    return [Point(f"m{metric}", 0.5, epoch, epoch) for metric in range(num_metrics)]


@given(epochs=st.integers(0, 60), num_metrics=st.integers(1, 90))
def test_requests_stay_within_the_limit_and_cut_no_epoch(epochs: int, num_metrics: int) -> None:
    tracker, sent = CountingTracker(MemoryServer()), Counter[str]()
    points = [point for epoch in range(1, epochs + 1) for point in line(epoch, num_metrics)]
    run = wanted(points)

    bring_up(tracker, create(tracker, run, sent), run, sent)

    assert max(tracker.sizes) <= 1000
    assert sum(map(len, tracker.steps)) == epochs
    assert sent["points"] == len(points)


def test_only_later_epochs_are_sent() -> None:
    tracker, sent = CountingTracker(MemoryServer()), Counter[str]()
    first, second = wanted(line(1, 2)), wanted([*line(1, 2), *line(2, 2)])
    held = create(tracker, first, sent)
    bring_up(tracker, held, first, sent)

    bring_up(tracker, held, second, sent)

    assert tracker.steps == [{1}, {2}]
    assert held.epoch == 2


def test_what_is_held_already_is_asked_for_no_more() -> None:
    server, sent = MemoryServer(), Counter[str]()
    tracker, run = CountingTracker(server), wanted(line(1, 2))
    held = create(tracker, run, sent)
    bring_up(tracker, held, run, sent)
    server.requests.clear()

    bring_up(tracker, held, run, sent)

    assert server.requests == []


def test_a_parameter_that_is_there_is_never_sent_again() -> None:
    server, sent = MemoryServer(), Counter[str]()
    tracker = CountingTracker(server)
    held = create(tracker, wanted([]), sent)
    bring_up(tracker, held, wanted([]), sent)

    bring_up(tracker, held, wanted([], params={"b": "3", "c": "4"}), sent)

    assert server.runs[0].params == {"b": "2", "c": "4"}
