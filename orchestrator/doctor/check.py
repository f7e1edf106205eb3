"""One thing that `doctor` looked at, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Check", "Verdict"]


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    verdict: Verdict
    """fail: no sweep can run; warn: one can, with a drawback."""
    finding: str
    """What is true."""
    advice: str | None = None
    """What to do next; null if nothing."""
    code: int = 2
    """Exit code of the command if this check fails: 3 for what cannot be reached."""
