"""Drafts that a killed process left beside what it was about to replace."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

from orchestrator.store.paths import SweepPaths

__all__ = ["remove_stale_drafts"]

_DRAFT = re.compile(r"^\..+\.(\d+)\.draft(?:-[a-z]+)?$")
"""Every draft has its writer's process id in its name; a database's draft has side files of its own."""


_ABANDONED_SECONDS = 3600.0


def remove_stale_drafts(sweep: SweepPaths) -> None:
    """Remove the drafts of a sweep that nobody on this machine is at; nobody else is at any of them.

    Of what sweeps share, other machines may be at drafts: those go that nobody has written to for an hour.
    """
    storage = sweep.storage
    shared = (*storage.root.glob(".*.draft*"), *storage.teachers.glob("*/.*.draft*"))
    for path in (*sweep.root.rglob(".*.draft*"), *filter(_is_abandoned, shared)):
        match = _DRAFT.match(path.name)
        if match and not _is_alive(int(match[1])):
            _remove(path)


def _is_abandoned(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
