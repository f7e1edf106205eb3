"""What a person sees while a sweep runs: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO, cast

from orchestrator.report.wording import counted, duration, fixed, label
from orchestrator.store.records import Stage, TrialState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Board", "LiveProgress", "PlainProgress", "Progress", "Row", "progress_for"]

_SECONDS_BETWEEN_SUMMARIES = 60.0
_REFRESHES_PER_SECOND = 4.0
_ROOM_FOR_TRIALS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial as it stands now."""

    number: int | None
    """The sampler's number; null for a confirm trial."""
    name: str
    """The trial's hash."""
    stage: Stage
    """Which stage asked for it."""
    state: TrialState
    """Where it stands."""
    epoch: int
    """Last finished epoch, 0 before the first."""
    epochs: int
    """Epochs it runs for if nothing stops it."""
    objective: float | None
    """What a complete trial is ranked by, of another one the newest value; null where there is none."""
    attempt: int
    """Number of the newest attempt, 0 before the first."""
    cause: str | None
    """Why it failed or was pruned; of a running trial, why its attempt before failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A sweep as it stands now: all a display needs, and nothing it has to look up."""

    stage: str
    """teacher, search, confirm or report."""
    rows: tuple[Row, ...]
    """Every trial of the sweep in the order they started; the display picks what it has room for."""
    best: float | None
    """Best objective of a complete search trial so far."""
    counts: Mapping[TrialState, int]
    """Trials of the stage by state; a state without trials may be missing."""
    planned: int
    """Trials the stage will run in all."""
    seconds_left: float | None
    """Estimated time to the end of the stage; null while nobody can tell."""
    note: str | None
    """One sentence worth standing below the table, such as an outage that is being waited out."""


class Progress(Protocol):
    """Where a sweep says how it stands. Never raises: a closed terminal must not end a sweep."""

    def say(self, line: str) -> None:
        """Print one line that stays."""

    def show(self, board: Board) -> None:
        """Show how the sweep stands now; cheap enough to call after every event."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; the last board stays on the screen."""


def progress_for(stream: TextIO) -> Progress:
    """A live table if the stream is a terminal that can redraw one, else plain lines.

    NO_COLOR takes the colours out of the table and leaves the table.
    """
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    return LiveProgress(stream) if live else PlainProgress(stream)


class PlainProgress:
    """A timed line when a stage begins, when a trial starts, is tried again or ends, and once a minute."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.time) -> None:
        self._stream = _Unbreakable(stream)
        self._now = now
        self._board: Board | None = None
        self._summarised = now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._board = None

    def say(self, line: str) -> None:
        """Print one line with the time before it."""
        stamp = time.strftime("%H:%M:%S", time.localtime(self._now()))
        self._stream.write(f"{stamp} {line}\n")
        self._stream.flush()

    def show(self, board: Board) -> None:
        """Print what has changed since the last board."""
        before, self._board = self._board, board
        if before is None or before.stage != board.stage:
            self._summarised = self._now()
            self.say(f"stage {board.stage}: {_standing(board)}")
        known = {row.name: row for row in (_settled(board) if before is None else before.rows)}
        for row in board.rows:
            if news := _news(known.get(row.name), row, board.best):
                self.say(news)
        if board.note and (before is None or before.note != board.note):
            self.say(board.note)
        if self._now() - self._summarised >= _SECONDS_BETWEEN_SUMMARIES:
            self._summarised = self._now()
            self.say(f"{board.stage}: {_standing(board)}")


class LiveProgress:
    """A table that redraws itself: running trials, the newest finished ones, best so far, time left."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board: Board | None = None
        self._console = Console(file=cast(TextIO, _Unbreakable(stream)))
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start()
        # A hidden cursor would stay hidden if this process were killed.
        self._console.show_cursor()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print one line above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, board: Board) -> None:
        """Draw this board at the next refresh."""
        self._board = board

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        board = self._board
        if board is None:
            return ""
        room = min(_ROOM_FOR_TRIALS, max(self._console.height - 5, 1))
        lines = [Text(f"{board.stage}: {_standing(board)}", style="bold")]
        if board.note:
            lines.append(Text(board.note, style="yellow"))
        return Group(*([_table(board, room)] if board.rows else []), *lines)


# OSError and ValueError: the terminal is closed. RuntimeError: a signal handler has something to say in the
# middle of another write.
_UNWRITABLE = (OSError, ValueError, RuntimeError)


class _Unbreakable:
    """A stream that swallows what it cannot write: a terminal must not end a sweep."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(*_UNWRITABLE):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(*_UNWRITABLE):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _standing(board: Board) -> str:
    """Counts, best and time left in one phrase."""
    finished = sum(board.counts.get(state, 0) for state in TrialState if state.is_final)
    parts = [f"{finished}/{board.planned} trials finished"] if board.planned else []
    if any(board.counts.values()):
        parts.append(counted(board.counts))
    if board.best is not None:
        parts.append(f"best {fixed(board.best)}")
    if finished < board.planned and board.seconds_left is not None:
        parts.append(f"about {duration(board.seconds_left)} left")
    return ", ".join(parts) or "nothing to run"


def _settled(board: Board) -> list[Row]:
    """Trials of the first board that are old news: a sweep that goes on does not tell its past again."""
    return [row for row in board.rows if row.state is not TrialState.RUNNING]


def _news(before: Row | None, row: Row, best: float | None) -> str | None:
    """What became of a trial since the last board; None if nothing a reader must know."""
    who = f"{'confirm' if row.stage is Stage.CONFIRM else 'trial'} {label(row.number, row.name)}"
    why = f": {row.cause}" if row.cause else ""
    if before is not None and (before.state, before.attempt) == (row.state, row.attempt):
        return None
    match row.state:
        case TrialState.PENDING:
            return f"{who} waits for another attempt{why}" if row.attempt else None
        case TrialState.RUNNING if row.attempt > 1:
            how = f"goes on from epoch {row.epoch}" if row.epoch else "begins again"
            return f"{who} {how} in attempt {row.attempt}{why}"
        case TrialState.RUNNING:
            return f"{who} started"
        case TrialState.COMPLETE:
            return f"{who} complete after {row.epoch} epochs: {fixed(row.objective)} (best {fixed(best)})"
        case TrialState.PRUNED:
            return f"{who} pruned at epoch {row.epoch} of {row.epochs}: {fixed(row.objective)}"
        case TrialState.FAILED:
            return f"{who} failed at epoch {row.epoch} of {row.epochs}{why}"


_STYLES = {TrialState.COMPLETE: "green", TrialState.FAILED: "red", TrialState.PRUNED: "dim"}


def _table(board: Board, room: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("trial", "state", "epoch", "objective", "note"):
        table.add_column(heading, justify="left" if heading in ("state", "note") else "right", no_wrap=True)
    for row in _pick(board.rows, room):
        table.add_row(
            label(row.number, row.name),
            Text(row.state, style=_STYLES.get(row.state, "")),
            f"{row.epoch}/{row.epochs}",
            fixed(row.objective),
            Text(row.cause or "", overflow="ellipsis"),
        )
    return table


def _pick(rows: tuple[Row, ...], room: int) -> list[Row]:
    """The newest finished trials above the running ones, which go first if there is no room for all."""
    running = [row for row in rows if row.state is TrialState.RUNNING][:room]
    others = [row for row in rows if row.state is not TrialState.RUNNING and row.attempt]
    newest = others[-(room - len(running)) :] if room > len(running) else []
    return [*newest, *running]
