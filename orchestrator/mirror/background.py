"""The thread that mirrors while trials run: it never raises into the controller and never holds it up."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from orchestrator.errors import FencedError, OrchestratorError
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.sync import Mirror

__all__ = ["Background"]

_LONGEST_PAUSE_SECONDS = 60.0
_REST = 4.0

_logger = logging.getLogger(__name__)


class Background:
    """A context manager: while its block runs, the mirror follows the folders.

    On leaving, the thread mirrors a last time, with the sweep's own run ended; whatever it cannot send within
    `grace_seconds` is left to the next controller or to `cpsc-orchestrate sync`. Whoever leaves because the
    sweep was taken over sends nothing more: the other controller shows it as it is.
    """

    def __init__(
        self,
        mirror: Mirror,
        interval_seconds: float = 10.0,
        *,
        grace_seconds: float = 60.0,
        registers: bool = False,
    ) -> None:
        """Follow the folders every `interval_seconds`, and whenever woken.

        With `registers` the best student is put into MLflow's model registry in the end.
        """
        self._mirror = mirror
        self._registers = registers
        self._interval_seconds = interval_seconds
        self._grace_seconds = grace_seconds
        self._woken = threading.Event()
        self._leaving = threading.Event()
        self._is_lost = False
        self._failures = 0
        self._last_error: str | None = None
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)

    def wake(self) -> None:
        """Say that something has changed; returns at once."""
        self._woken.set()

    @property
    def last_error(self) -> str | None:
        """Why the last synchronisation failed; None if it did not."""
        return self._last_error

    @property
    def backlog(self) -> int:
        """Trials of which something is not mirrored yet."""
        return self._mirror.backlog()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._is_lost = isinstance(error, FencedError)
        self._leaving.set()
        self._woken.set()
        self._thread.join(self._grace_seconds)
        if not self._is_lost and (self._thread.is_alive() or self._last_error is not None):
            _logger.warning(
                "MLflow lacks %d trial(s) of %s; `cpsc-orchestrate sync %s` sends them",
                self.backlog,
                self._mirror.name,
                self._mirror.address,
            )

    def _follow(self) -> None:
        while not self._leaving.is_set():
            self._woken.clear()
            begun = time.monotonic()
            self._try(closing=False)
            self._pause(time.monotonic() - begun)
        if not self._is_lost:
            self._try(closing=True)

    def _try(self, *, closing: bool) -> None:
        try:
            synced = self._mirror.close() if closing else self._mirror.sync()
            if closing and self._registers:
                self._mirror.register_best()
        except OrchestratorError as error:
            self._note_failure(str(error))
        except Exception as error:
            self._note_failure(f"{type(error).__name__}: {error}", trace=True)
        else:
            self._note_success(synced)

    def _pause(self, took_seconds: float) -> None:
        """Wait for the next change, or after a failure ever longer; the processor is for the trials."""
        if self._failures:
            pause = self._interval_seconds * 2.0 ** min(self._failures, 10)
            self._leaving.wait(min(pause, _LONGEST_PAUSE_SECONDS))
        elif not self._leaving.wait(_REST * took_seconds):
            self._woken.wait(self._interval_seconds)

    def _note_failure(self, message: str, *, trace: bool = False) -> None:
        self._failures += 1
        if message != self._last_error:
            _logger.warning("%s", message, exc_info=trace)
        self._last_error = message

    def _note_success(self, synced: Synced) -> None:
        if self._failures:
            _logger.info("MLflow answers again: %s", synced)
        self._failures = 0
        self._last_error = None
