"""What can be done about it."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.store.records import TrialState

__all__ = ["Action", "AskStudy", "Commit", "Finish", "PlanConfirm", "RunTrial", "Wait"]


@dataclass(frozen=True, slots=True)
class RunTrial:
    """Start an attempt."""

    name: str
    """The trial's hash."""
    attempt: int
    """The attempt's number, from 1."""
    recompute: bool = False
    """Whether it saves memory by computing activations twice."""


@dataclass(frozen=True, slots=True)
class AskStudy:
    """Ask the study for a suggestion."""

    number: int
    """The suggestion's number, from 0."""


@dataclass(frozen=True, slots=True)
class PlanConfirm:
    """Write the confirm trials of the best configurations."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Start nothing now."""

    until: float | None
    """Time at which a backoff ends; None: until an attempt ends."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The sweep is over."""

    reason: str
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Write a trial's result."""

    name: str
    """The trial's hash."""
    state: TrialState
    """complete, pruned or failed."""
    cause: str | None = None
    """Class of the failure; None unless failed."""
    detail: str | None = None
    """Why, in words."""


Action = RunTrial | AskStudy | PlanConfirm | Wait | Finish | Commit
