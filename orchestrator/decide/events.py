"""What can happen to a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.store.records import EndClass

__all__ = ["Closed", "Confirmed", "Duplicated", "Ended", "Event", "Reported", "SlotFree", "Suggested"]


@dataclass(frozen=True, slots=True)
class SlotFree:
    """There is room for one more attempt."""

    now: float
    """Time, seconds."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """The study's answer named a new trial."""

    name: str
    """The trial's hash."""


@dataclass(frozen=True, slots=True)
class Duplicated:
    """The study's answer named a trial that already exists."""

    name: str
    """That trial's hash."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The confirm trials were planned."""

    names: tuple[str, ...]
    """Their hashes, in the order they are to run."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A live trial finished an epoch that is not its last."""

    name: str
    """The trial's hash."""
    prune: bool
    """Whether the pruner would end it here."""
    detail: str | None = None
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt ended."""

    name: str
    """The trial's hash."""
    ended: EndClass
    """How."""
    now: float
    """Time, seconds."""
    detail: str | None = None
    """Why, in words."""
    seconds: float = 0.0
    """Seconds of work of the attempt."""
    gpu_seconds: float = 0.0
    """The same, times the GPUs it held."""
    fingerprint: str | None = None
    """Equal for failures of the same kind at the same place; None where trying again may well help."""
    recomputed: bool = False
    """Whether the attempt computed activations twice already to save memory."""
    objective: float | None = None
    """The objective, if the trial is complete."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing new is to be asked for; with `stopping`, nothing at all is to be started."""

    reason: str
    """Why, in words."""
    stopping: bool = False
    """Whether waiting trials are left for a later resume."""


Event = SlotFree | Suggested | Duplicated | Confirmed | Reported | Ended | Closed
