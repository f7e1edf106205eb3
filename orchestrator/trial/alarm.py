"""The stack of a process that hangs or crashes, written where the trial's log is."""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import TextIO

__all__ = ["StackAlarm"]


class StackAlarm:
    """Notes where every thread is once an attempt has said nothing for a while, or crashes.

    It is the interpreter that writes, below Python: a thread that never comes back cannot keep it from that.
    A process that was stopped as a whole writes nothing.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._log: Path | None = None
        self._file: TextIO | None = None

    def watch(self, log: Path, seconds: float) -> None:
        """Note stacks in a log, whose folder need not exist yet, after so many seconds of silence."""
        self.rest()
        self._log, self._seconds = log, seconds
        self.rearm()

    def rearm(self) -> None:
        """The attempt has made progress: the silence begins anew."""
        if self._file is None and self._log is not None and self._log.parent.exists():
            self._file = self._log.open("a", encoding="utf-8")
            faulthandler.enable(self._file)
        if self._file is not None:
            faulthandler.dump_traceback_later(self._seconds, file=self._file)

    def rest(self) -> None:
        """The attempt is over: silence means nothing any more."""
        if self._file is not None:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            self._file.close()
        self._log = self._file = None
