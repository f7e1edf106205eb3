"""What passes between a running controller and the bucket besides records: stop requests and views."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.errors import FencedError, OrchestratorError
from orchestrator.store.ownership import Ownership
from orchestrator.store.paths import SweepPaths
from orchestrator.store.working_copy import copy_of, discard, publish

__all__ = ["Relay", "forget_stop", "push_views"]

_LOOK_SECONDS = 2.0
_PUSH_SECONDS = 30.0

_logger = logging.getLogger(__name__)


class Relay:
    """A context manager that forwards requests to stop, and takes them back at its end.

    While its block runs in a working copy, a request that reaches the bucket is passed on to the controller,
    one that the controller makes to the machines that run trials, and the bucket is sent the views. It never
    raises into the controller.
    """

    def __init__(self, paths: SweepPaths, lease: Ownership) -> None:
        """Nothing is begun before the block is entered; without the lease nothing is sent."""
        self._paths = paths
        self._lease = lease
        self._copy = copy_of(paths.root)
        self._sent: dict[Path, tuple[int, int]] = {}
        self._is_passed_on = False
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="relay", daemon=True)

    def __enter__(self) -> Self:
        if self._copy is not None:
            self._sent = {path: _stamp(path) for path in _views(self._paths)}
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copy is not None:
            self._leaving.set()
            self._thread.join()
            self._try(self._send_views)
        self._try(lambda: forget_stop(self._paths, self._lease))

    def _follow(self) -> None:
        sent = time.monotonic()
        while not self._leaving.wait(_LOOK_SECONDS):
            self._try(self._pass_on_stop)
            if time.monotonic() - sent > _PUSH_SECONDS:
                self._try(self._send_views)
                sent = time.monotonic()

    def _pass_on_stop(self) -> None:
        stop = self._paths.stop
        if self._is_passed_on or self._copy is None:
            return
        if stop.exists():
            self._lease.check()
            publish(stop)
            self._is_passed_on = True
        elif self._copy.holds(stop):
            stop.touch()
            self._is_passed_on = True

    def _send_views(self) -> None:
        now = {path: _stamp(path) for path in _views(self._paths)}
        self._lease.check()
        publish(*(path for path, stamp in now.items() if self._sent.get(path) != stamp))
        self._sent = now

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except FencedError:
            return  # the controller hears of it where it matters
        except (OrchestratorError, OSError) as error:
            _logger.warning("%s", error)


def forget_stop(paths: SweepPaths, lease: Ownership) -> None:
    """Take back a request to stop; raises FencedError if the sweep was taken over."""
    paths.stop.unlink(missing_ok=True)
    lease.check()
    discard(paths.stop)


def push_views(paths: SweepPaths) -> None:
    """Send what shows a sweep to the bucket, if it is a working copy of one."""
    publish(*_views(paths))


def _views(paths: SweepPaths) -> Iterator[Path]:
    """The files of a sweep that are no truth: tables, report, log, and what MLflow has heard."""
    own = (paths.trials_table, paths.metrics_table, paths.report, paths.mirror, paths.log)
    yield from (path for path in own if path.exists())
    if paths.trials.is_dir():
        mirrors = (paths.trial(entry.name).mirror for entry in paths.trials.iterdir())
        yield from (path for path in mirrors if path.exists())


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
