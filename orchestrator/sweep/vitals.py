"""Notices that the Ray below a sweep is dead, and ends the sweep's command with words that help."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Self

from orchestrator.errors import UnreachableError

__all__ = ["Vitals"]

_GLANCE_SECONDS = 1.0
_UNREACHABLE = 3


class Vitals:
    """A context manager that watches, from a thread, whether anything vital is lost while its block runs.

    `refuse_death` raises then. A thread that is caught in a call which Ray never answers cannot raise: if the
    block has not ended `grace_seconds` later the process ends with 3, or as `signalled` says. What is on disk
    is whole at every moment, so nothing needs to be tidied up first.
    """

    def __init__(
        self,
        lost: Callable[[], AbstractSet[str]],
        farewell: str,
        *,
        signalled: Callable[[], int | None] = lambda: None,
        grace_seconds: float = 15.0,
    ) -> None:
        """`signalled` gives the exit code of a signal that came before: a whole job's takes Ray along."""
        self._lost = lost
        self._signalled = signalled
        self._farewell = farewell
        self._grace_seconds = grace_seconds
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vitals", daemon=True)

    def refuse_death(self) -> None:
        """Raise UnreachableError if anything vital is lost."""
        if lost := self._lost():
            raise UnreachableError(self._describe(lost))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _watch(self) -> None:
        while not self._left.wait(_GLANCE_SECONDS):
            if lost := self._lost():
                if not self._left.wait(self._grace_seconds):
                    sys.stderr.write(f"\nerror: {self._describe(lost)}\n")
                    sys.stderr.flush()
                    os._exit(self._signalled() or _UNREACHABLE)
                return

    def _describe(self, lost: AbstractSet[str]) -> str:
        names = " and ".join(sorted(lost))
        if heads := [each for each in lost if each.startswith("head ")]:
            return (
                f"the cluster's {heads[0]} does not answer any more: it is gone, or cut off from here; "
                f"start it again, or another one, then {self._farewell}"
            )
        return f"Ray on this machine has lost its {names}, which crashed or was killed; {self._farewell}"
