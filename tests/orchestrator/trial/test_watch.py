"""Who hangs, on a clock of our own and with ranks that answer or do not."""

from typing import Any

import pytest

from orchestrator.trial import watch as module
from orchestrator.trial.failure import HangError
from orchestrator.trial.news import Pulse
from orchestrator.trial.watch import Watch

LIMIT = 10.0
START_SECONDS = 120.0


class FakeRank:
    """Finishes updates at given times; answers only while it is not frozen."""

    def __init__(self, clock: "Clock") -> None:
        self.clock = clock
        self.update: float | None = None
        self.frozen = False
        self.terminated = False
        self.pulse = self

    def remote(self) -> "FakeRank":
        return self

    def answer(self) -> Pulse:
        since = self.update if self.update is not None else 0.0
        return Pulse(
            silence=self.clock.now - since,
            has_begun=self.update is not None,
            terminated=self.terminated,
            memory=None,
        )


class Clock:
    now = 0.0


class FakeRay:
    ObjectRef = list

    @staticmethod
    def wait(asked: list[FakeRank], timeout: float) -> tuple[list[FakeRank], list[FakeRank]]:
        return [each for each in asked if not each.frozen], [each for each in asked if each.frozen]

    @staticmethod
    def get(asked: FakeRank) -> Pulse:
        return asked.answer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ranks(clock: Clock) -> list[FakeRank]:
    return [FakeRank(clock), FakeRank(clock)]


@pytest.fixture
def watch(clock: Clock, ranks: list[FakeRank], monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(module, "ray", FakeRay)
    return Watch(ranks, START_SECONDS, clock=lambda: clock.now)


def seconds_until_hang(watch: Watch, clock: Clock, act: Any = None, until: float = 300.0) -> float | None:
    """When the watch loses patience, looking once a second."""
    while clock.now < until:
        clock.now += 1.0
        if act is not None:
            act(clock.now)
        watch.look()
        try:
            watch.refuse_silence(LIMIT)
        except HangError:
            return clock.now
    return None


def begin(ranks: list[FakeRank], watch: Watch) -> None:
    for rank in ranks:
        rank.update = 0.0
    watch.look()
    watch.look()


def test_ranks_that_make_progress_are_left_alone(watch: Watch, clock: Clock, ranks: list[FakeRank]) -> None:
    def act(now: float) -> None:
        for rank in ranks:
            rank.update = now

    assert seconds_until_hang(watch, clock, act) is None


def test_the_first_may_work_while_the_others_wait(watch: Watch, clock: Clock, ranks: list[FakeRank]) -> None:
    begin(ranks, watch)

    def act(now: float) -> None:
        ranks[0].update = now

    assert seconds_until_hang(watch, clock, act) is None


def test_silence_of_all_is_a_hang_within_a_second_or_two(
    watch: Watch, clock: Clock, ranks: list[FakeRank]
) -> None:
    begin(ranks, watch)

    when = seconds_until_hang(watch, clock)

    assert when is not None
    assert LIMIT < when <= LIMIT + 2


def test_a_frozen_rank_hangs_although_another_goes_on_and_is_named(
    watch: Watch, clock: Clock, ranks: list[FakeRank]
) -> None:
    begin(ranks, watch)
    ranks[1].frozen = True

    def act(now: float) -> None:
        ranks[0].update = now

    when = seconds_until_hang(watch, clock, act)

    assert when is not None
    assert LIMIT < when <= LIMIT + 2
    with pytest.raises(HangError, match=r"rank 1 of 2 did not answer for 11 s \(hang.seconds is 10\)"):
        watch.refuse_silence(LIMIT)


def test_a_rank_that_is_too_busy_to_answer_for_a_while_is_no_hang(
    watch: Watch, clock: Clock, ranks: list[FakeRank]
) -> None:
    begin(ranks, watch)

    def act(now: float) -> None:
        ranks[1].frozen = now % 9 != 0
        ranks[0].update = now

    assert seconds_until_hang(watch, clock, act) is None


def test_before_the_first_update_there_is_time_to_load(
    watch: Watch, clock: Clock, ranks: list[FakeRank]
) -> None:
    when = seconds_until_hang(watch, clock)

    assert when is not None
    assert START_SECONDS < when <= START_SECONDS + 2


def test_a_new_trial_does_not_inherit_the_silence_of_the_last(
    watch: Watch, clock: Clock, ranks: list[FakeRank]
) -> None:
    begin(ranks, watch)
    clock.now = 9.0
    watch.start_anew()
    clock.now = 12.0

    watch.refuse_silence(LIMIT)


def test_who_was_sent_sigterm_is_known(watch: Watch, ranks: list[FakeRank]) -> None:
    ranks[1].terminated = True
    watch.look()
    watch.look()

    assert watch.terminated == [1]


def test_an_answer_older_than_an_update_is_not_held_against_the_ranks(watch: Watch, clock: Clock) -> None:
    """They loaded for longer than they may be silent later, and said so just before their first epoch."""
    clock.now = 49.0
    watch.look()
    watch.look()
    clock.now = 50.0
    watch.note_update()

    clock.now = 52.0
    watch.refuse_silence(LIMIT)
    clock.now = 50.0 + LIMIT + 1.0
    with pytest.raises(HangError):
        watch.refuse_silence(LIMIT)
