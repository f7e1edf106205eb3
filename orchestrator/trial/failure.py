"""From an exception to the class of a failure, which decides whether a trial is tried again."""

from __future__ import annotations

import errno
from traceback import format_exception

from ray.exceptions import RayTaskError

from cpsc_core.errors import (
    AttemptError,
    CheckpointError,
    DataError,
    DivergedError,
    RankError,
    TeacherError,
)
from cpsc_core.redaction import redact
from orchestrator.errors import UnreachableError
from orchestrator.store.records import EndClass

__all__ = [
    "GangLostError",
    "HangError",
    "MemoryShortError",
    "PreemptedError",
    "classify",
    "describe",
    "trace",
]

_SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class GangLostError(Exception):
    """A rank's process is gone.

    Not Ray's own error: that one, leaving a step, would have Tune kill the healthy driver as well.
    """


class PreemptedError(Exception):
    """The machine is wanted back."""


class MemoryShortError(Exception):
    """A rank's process was killed because its machine ran out of memory."""


class HangError(Exception):
    """The ranks are alive and make no progress."""


def classify(error: BaseException) -> EndClass:
    """The class of a failure. torch's errors are known by name, so that the driver stays free of torch."""
    match error := _raised(error):
        case DivergedError():
            return EndClass.DIVERGED
        case DataError() | TeacherError() | CheckpointError():
            return EndClass.DATA
        case MemoryError() | MemoryShortError() | OSError(errno=errno.ENOMEM):
            return EndClass.OUT_OF_MEMORY
        case PreemptedError():
            return EndClass.PREEMPTED
        case GangLostError() | RankError() | AttemptError() | UnreachableError():
            return EndClass.INFRASTRUCTURE
        case HangError():
            return EndClass.HANG
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EIO | errno.ESTALE | errno.ENOTCONN):
            return EndClass.INFRASTRUCTURE
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error).lower()
    if "OutOfMemoryError" in names or any(each in text for each in _SHORT_OF_MEMORY):
        return EndClass.OUT_OF_MEMORY
    return EndClass.ERROR


def describe(error: BaseException) -> str:
    """The failure in one line: its message without secrets, with the type's name where that says more."""
    error = _raised(error)
    text = " ".join(redact(str(error)).split()) or type(error).__name__
    return text if isinstance(error, _IN_OUR_WORDS) else f"{type(error).__name__}: {text}"


def trace(error: BaseException) -> list[str]:
    """Where it happened, as traceback lines; empty for what happened elsewhere and is told in words."""
    return [] if isinstance(error, _ELSEWHERE) else redact("".join(format_exception(error))).splitlines()


def _raised(error: BaseException) -> BaseException:
    """What another process has raised, in place of what Ray raises here for it, which has lost its errno."""
    return error.cause if isinstance(error, RayTaskError) else error


_ELSEWHERE = (GangLostError, HangError, MemoryShortError, PreemptedError)
_IN_OUR_WORDS = (DivergedError, *_ELSEWHERE)
