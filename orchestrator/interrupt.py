"""Signals: the first asks the sweep to stop well, the second stops it now."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupt"]

_GRACEFUL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Catches SIGINT, SIGTERM and SIGHUP while a `with` block runs; `on_first` is called once.

    A second SIGINT ends the process at once with 130: what is on disk is whole at every moment, so
    nothing needs to be tidied up first, and `resume` goes on from there.
    """

    def __init__(self, on_first: Callable[[], None], farewell: str) -> None:
        self._on_first = on_first
        self._farewell = farewell
        self._before: dict[signal.Signals, Any] = {}
        self.caught: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """130 after SIGINT, 143 after SIGTERM or SIGHUP, None if nothing was caught."""
        if self.caught is None:
            return None
        return 130 if self.caught is signal.SIGINT else 143

    def __enter__(self) -> Self:
        for number in _GRACEFUL:
            # nohup sets SIGHUP to be ignored, and means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None and number == signal.SIGINT:
            sys.stderr.write(f"\n{self._farewell}\n")
            sys.stderr.flush()
            os._exit(130)
        if self.caught is None:
            self.caught = signal.Signals(number)
            self._on_first()
