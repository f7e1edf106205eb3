from __future__ import annotations

import io
import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.records import Stage, TrialState
from orchestrator.sweep.progress import Board, LiveProgress, PlainProgress, Row, progress_for

NOON = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    """A stream whose reader is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


def row(number: int | None = 0, state: TrialState = TrialState.RUNNING, **changes: Any) -> Row:
    usual: dict[str, Any] = {
        "number": number,
        "name": "c0ffee012345" if number is None else f"{number:012x}",
        "stage": Stage.SEARCH if number is not None else Stage.CONFIRM,
        "state": state,
        "epoch": 3,
        "epochs": 20,
        "objective": 0.5,
        "attempt": 1,
        "cause": None,
    }
    return Row(**usual | changes)


def board(*rows: Row, **changes: Any) -> Board:
    usual: dict[str, Any] = {
        "stage": "search",
        "rows": rows,
        "best": None,
        "counts": {},
        "planned": 8,
        "seconds_left": None,
        "note": None,
    }
    return Board(**usual | changes)


def told(*boards: Board, now: Callable[[], float] = lambda: NOON) -> list[str]:
    stream = io.StringIO()
    with PlainProgress(stream, now=now) as progress:
        for each in boards:
            progress.show(each)
    return [line.removeprefix("12:00:00 ") for line in stream.getvalue().splitlines()]


def test_the_first_line_tells_the_stage() -> None:
    first = board(counts={TrialState.COMPLETE: 2, TrialState.PRUNED: 1}, best=0.75, seconds_left=3700.0)

    assert told(first) == [
        "stage search: 3/8 trials finished, 2 complete, 1 pruned, best 0.7500, about 1 h 02 min left"
    ]


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, row(), "trial 0 started"),
        (
            row(),
            row(state=TrialState.COMPLETE, epoch=20),
            "trial 0 complete after 20 epochs: 0.5000 (best 0.7500)",
        ),
        (row(), row(state=TrialState.PRUNED), "trial 0 pruned at epoch 3 of 20: 0.5000"),
        (row(), row(state=TrialState.FAILED, cause="hang"), "trial 0 failed at epoch 3 of 20: hang"),
        (row(), row(state=TrialState.PENDING, cause="hang"), "trial 0 waits for another attempt: hang"),
        (row(), row(attempt=2, cause="hang"), "trial 0 goes on from epoch 3 in attempt 2: hang"),
        (row(), row(attempt=2, epoch=0), "trial 0 begins again in attempt 2"),
        (None, row(None), "confirm c0ffee01 started"),
        (None, row(state=TrialState.FAILED, cause="data"), "trial 0 failed at epoch 3 of 20: data"),
    ],
)
def test_what_becomes_of_a_trial_is_a_line(before: Row | None, after: Row, line: str) -> None:
    first = board(*([before] if before else []))

    assert told(first, board(after, best=0.75))[-1] == line


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (row(), row(epoch=4)),
        (row(), row(objective=0.9)),
        (None, row(state=TrialState.PENDING, attempt=0)),
    ],
)
def test_what_changes_nothing_for_a_reader_is_no_line(before: Row | None, after: Row) -> None:
    first = board(*([before] if before else []))

    assert told(first, board(after)) == told(first)


def test_a_sweep_that_goes_on_does_not_tell_its_past() -> None:
    lines = told(board(row(0, TrialState.COMPLETE), row(1, TrialState.RUNNING, attempt=2)))

    assert lines[1:] == ["trial 1 goes on from epoch 3 in attempt 2"]


def test_stages_and_notes_are_told_once() -> None:
    noted = board(note="MLflow does not answer")

    lines = told(noted, noted, board(), board(stage="confirm", planned=2))

    assert lines[1:] == ["MLflow does not answer", "stage confirm: 0/2 trials finished"]


def test_a_summary_comes_at_most_once_a_minute() -> None:
    clock = iter(NOON + 10.0 * step for step in range(10_000))

    lines = told(*[board() for _ in range(100)], now=lambda: next(clock))

    summaries = [line for line in lines if " search:" in line and "stage" not in line]
    seconds = [int(line[3:5]) * 60 + int(line[6:8]) for line in summaries]
    assert len(seconds) > 5
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(seconds))


STATES = st.sampled_from(list(TrialState))


def test_a_new_stage_is_its_own_summary() -> None:
    clock = iter([NOON] + [NOON + 90.0] * 100)

    lines = told(board(), now=lambda: next(clock))

    assert lines == ["12:01:30 stage search: 0/8 trials finished"]


def test_a_stage_without_trials_has_nothing_to_run() -> None:
    assert told(board(stage="confirm", planned=0, seconds_left=0.0)) == ["stage confirm: nothing to run"]


@given(st.lists(STATES, min_size=1, max_size=20))
def test_each_ending_of_a_trial_is_told_exactly_once(states: list[TrialState]) -> None:
    """However often the board is shown in between."""
    shown = [board()]
    for state in states:
        shown += [board(row(state=state))] * 3

    lines = told(*shown)

    changes = sum(now != before for before, now in zip([None, *states], states, strict=False))
    assert len(lines) == 1 + changes


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(5, "EIO"), ValueError("closed"), RuntimeError("reentrant")]
)
@pytest.mark.parametrize("kind", [PlainProgress, LiveProgress])
def test_a_reader_that_is_gone_does_not_end_a_sweep(kind: type[Any], error: Exception) -> None:
    with kind(Closed(error)) as progress:
        progress.say("hello")
        progress.show(board(row()))


def test_a_live_table_shows_running_trials_and_the_newest_finished_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "12")
    done = [row(number, TrialState.COMPLETE) for number in range(20)]
    rows = (*done, row(20), row(21), row(22, TrialState.PENDING, attempt=0))

    screen = last_frame(board(*rows, counts={TrialState.RUNNING: 2}, best=0.75, note="MLflow [is] away"))

    assert [line.split()[0] for line in screen[1:-2]] == ["15", "16", "17", "18", "19", "20", "21"]
    assert screen[-2:] == ["search: 0/8 trials finished, 2 running, best 0.7500", "MLflow [is] away"]


def test_a_cause_in_brackets_is_shown_as_it_is() -> None:
    failed = row(state=TrialState.FAILED, cause="[red]error")

    assert last_frame(board(failed))[1].endswith("[red]error")


def test_what_is_said_stands_above_the_table() -> None:
    stream = Terminal()
    with LiveProgress(stream) as progress:
        progress.show(board(row()))
        progress.say("starting [Ray]")

    lines = plain(stream.getvalue())
    assert lines.index("starting [Ray]") < len(lines) - 1
    assert lines[-1] == "search: 0/8 trials finished"


def test_the_cursor_is_visible_while_the_table_is_live() -> None:
    """A process that is killed cannot bring it back."""
    stream = Terminal()
    with LiveProgress(stream):
        written = stream.getvalue()

        assert written.rindex("\x1b[?25h") > written.rfind("\x1b[?25l")


@pytest.mark.parametrize(
    ("stream", "term", "kind"),
    [
        (Terminal(), "xterm-256color", LiveProgress),
        (Terminal(), "dumb", PlainProgress),
        (io.StringIO(), "xterm-256color", PlainProgress),
    ],
)
def test_only_a_terminal_that_can_redraw_gets_a_table(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)

    assert type(progress_for(stream)) is kind


def test_no_color_takes_the_colours_and_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()

    with LiveProgress(stream) as progress:
        progress.show(board(row(state=TrialState.FAILED)))

    assert "failed" in stream.getvalue()
    assert "\x1b[31m" not in stream.getvalue()


def last_frame(shown: Board) -> list[str]:
    stream = Terminal()
    with LiveProgress(stream) as progress:
        progress.show(shown)
    lines = plain(stream.getvalue())
    heading = max(index for index, line in enumerate(lines) if line.startswith("trial"))
    return lines[heading:]


def plain(text: str) -> list[str]:
    """What a terminal's text says without its control sequences, empty lines left out."""
    bare = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "")
    return [line.rstrip() for line in bare.split("\n") if line.strip()]
