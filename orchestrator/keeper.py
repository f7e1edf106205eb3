"""The thread that keeps something up to date while a block runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from orchestrator.errors import FencedError

__all__ = ["Keeper"]

_REST = 20.0
"""How many times as long as an update takes passes before the next: the processor is for the trials."""


class Keeper:
    """A context manager: a thread updates something now and then while its block runs, and on leaving.

    Whoever leaves because the sweep was taken over updates nothing more: it is somebody else's by now.
    """

    def __init__(
        self, name: str, update: Callable[[], object], *, interval_seconds: float, grace_seconds: float
    ) -> None:
        """Call `update`, which never raises, every `interval_seconds`, or less often if it takes long.

        Leaving waits for its last call, but no longer than `grace_seconds`.
        """
        self._update = update
        self._interval_seconds = interval_seconds
        self._grace_seconds = grace_seconds
        self._leaving = threading.Event()
        self._is_lost = False
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._is_lost = isinstance(error, FencedError)
        self._leaving.set()
        self._thread.join(self._grace_seconds)

    def _keep(self) -> None:
        pause = self._interval_seconds
        while not self._leaving.wait(pause):
            begun = time.monotonic()
            self._update()
            pause = max(self._interval_seconds, _REST * (time.monotonic() - begun))
        if not self._is_lost:
            self._update()
