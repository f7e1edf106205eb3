"""What a person sees while a sweep runs: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from orchestrator.store.records import Stage, TrialState

__all__ = ["Board", "Progress", "Row"]


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
    """The newest value of what the sweep ranks by; null before the first epoch."""
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
