"""Signals: the first asks the sweep to stop well, the second stops it now."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from threading import Thread
from types import FrameType
from typing import Any, NoReturn, Self

__all__ = ["Interrupt"]

_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h"
_GRACEFUL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Catches SIGINT, SIGTERM and SIGHUP while a `with` block runs; `on_first` is called once.

    A second SIGINT ends the process at once with 130, whatever it is at: what is on disk is whole at every
    moment, so nothing needs to be tidied up first, and `resume` goes on from there.
    """

    def __init__(self, on_first: Callable[[], None], farewell: Callable[[], str]) -> None:
        self._on_first = on_first
        self._farewell = farewell
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
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
        # Python runs a handler once the main thread is back from what it waits for; a thread need not wait.
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._told.close()
        self._listener.join()
        self._heard.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is None:
            self.caught = signal.Signals(number)
            self._on_first()

    def _leave(self) -> NoReturn:
        """Say how to go on, past a live display that has taken stderr and hidden the cursor, and be gone."""
        cursor = _SHOW_CURSOR if os.isatty(_STDERR) else ""
        try:
            os.write(_STDERR, f"{cursor}\n{self._farewell()}\n".encode())
        finally:
            os._exit(130)

    def _listen(self) -> None:
        """End the process at the first SIGINT that is not the first signal."""
        is_first = True
        while heard := self._heard.recv(64):
            for number in heard:
                if number == signal.SIGINT and not is_first:
                    self._leave()
                is_first = is_first and number not in _GRACEFUL
