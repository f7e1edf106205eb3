"""Drafts that a killed process left beside what it was about to replace."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from orchestrator.store.paths import SweepPaths

__all__ = ["remove_stale_drafts"]

_DRAFT = re.compile(r"^\..+\.(\d+)\.draft(?:-[a-z]+)?$")
"""Every draft has its writer's process id in its name; a database's draft has side files of its own."""


def remove_stale_drafts(sweep: SweepPaths) -> None:
    """Remove the drafts of a sweep, and of what it shares with others, that nobody on this machine is at."""
    storage = sweep.storage
    for drafts in (
        sweep.root.rglob(".*.draft*"),
        storage.root.glob(".*.draft*"),
        storage.teachers.glob("*/.*.draft*"),
    ):
        for path in list(drafts):
            match = _DRAFT.match(path.name)
            if match and not _is_alive(int(match[1])):
                _remove(path)


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
