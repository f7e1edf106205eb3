"""What travels between a driver and its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from cpsc_core.memory import MemoryUse
from orchestrator.store.records import EndClass

__all__ = ["Berth", "News", "Pulse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a rank has to say: a metrics line, an end, or both."""

    line: dict[str, Any] | None = None
    """The metrics line of the epoch that was just finished."""
    ended: EndClass | None = None
    """How the attempt ended; None while it goes on."""
    cause: str | None = None
    """Why, in one line."""
    trace: list[str] = field(default_factory=list)
    """Where, as traceback lines."""
    node: str | None = None
    """The host it ran on."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The news from plain JSON values."""
        ended = raw["ended"]
        return cls(**{**raw, "ended": None if ended is None else EndClass(ended)})

    @property
    def has_failed(self) -> bool:
        """Whether the attempt ended in a failure."""
        return self.ended is not None and self.ended.is_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """Where a rank lives."""

    host: str
    """Name of its machine."""
    node: str
    """Ray's id of that machine."""
    pid: int
    """Its process."""
    memory_kills: int
    """Processes the machine had killed for memory before the attempt began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """A sign that a rank's process lives."""

    silence: float
    """Seconds since it finished an update, or got its trial."""
    has_begun: bool
    """Whether its trial has finished an update; before that come loading and warming up."""
    terminated: bool
    """Whether it was sent SIGTERM."""
    memory: MemoryUse | None
    """What its trial needs; None between trials."""
