"""A module of the training core, asked in a process of its own: the controller has no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from orchestrator.errors import SignalledError, UsageError

__all__ = ["ask"]

_GRACE_SECONDS = 10.0
_TERMINATED = 143


def ask(module: str, request: Mapping[str, Any], *, to: str) -> dict[str, Any]:
    """The answer of `python -m module` to a JSON request with the threads of this machine added.

    Raises UsageError with the module's own words if it could not do what `to` says, and SignalledError, once
    the module's process has ended, if this one was sent SIGTERM.
    """
    asked = json.dumps({**request, "threads": len(os.sched_getaffinity(0))})
    with (
        _raising_on_sigterm(),
        subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child,
    ):
        try:
            answered, complained = child.communicate(asked)
        except BaseException:
            _end(child)
            raise
    if child.returncode:
        said = (complained.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise UsageError(f"could not {to}: {said.removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(answered.splitlines()[-1])
    return found


def _end(child: subprocess.Popen[str]) -> None:
    """Let a child tidy up and end."""
    child.terminate()
    try:
        child.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM leave the block as a SignalledError; a process that ended at once would leave its child."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: object) -> None:
        raise SignalledError("interrupted; the export is not whole", _TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
