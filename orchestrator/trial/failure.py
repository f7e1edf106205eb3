"""From an exception to the class of a failure, which decides whether a trial is tried again."""

from __future__ import annotations

import errno

from cpsc_core.errors import CheckpointError, DataError, DivergedError, RankError, TeacherError
from orchestrator.store.records import EndClass

__all__ = ["GangLostError", "HangError", "classify", "describe"]


class GangLostError(Exception):
    """A rank's process is gone.

    Not Ray's own error: that one, leaving a step, would have Tune kill the healthy driver as well.
    """


class HangError(Exception):
    """The ranks are alive and make no progress."""


def classify(error: BaseException) -> EndClass:
    """The class of a failure. torch's errors are known by name, so that the driver stays free of torch."""
    match error:
        case DivergedError():
            return EndClass.DIVERGED
        case DataError() | TeacherError() | CheckpointError():
            return EndClass.DATA
        case MemoryError():
            return EndClass.OUT_OF_MEMORY
        case GangLostError() | RankError():
            return EndClass.INFRASTRUCTURE
        case HangError():
            return EndClass.HANG
        case OSError(errno=errno.ENOSPC | errno.EIO | errno.ESTALE | errno.ENOTCONN):
            return EndClass.INFRASTRUCTURE
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names or "out of memory" in str(error).lower():
        return EndClass.OUT_OF_MEMORY
    return EndClass.ERROR


def describe(error: BaseException) -> str:
    """The failure in one line: its message, with the type's name where that says more."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, DivergedError) else f"{type(error).__name__}: {text}"
