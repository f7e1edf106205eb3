"""Drafts that a killed process left beside what it was about to replace."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from glob import escape
from pathlib import Path

__all__ = ["remove_stale_drafts", "remove_stale_drafts_of"]

_DRAFT = re.compile(r"^\..+\.(\d+)\.draft(?:-[a-z]+)?$")
"""Every draft has its writer's process id in its name; a database's draft has side files of its own."""


def remove_stale_drafts(folder: Path) -> None:
    """Remove the drafts below a folder that nobody on this machine is at.

    Only who alone may write there may call this: a process of another machine has no number here.
    """
    _remove_stale(folder.rglob(".*.draft*"))


def remove_stale_drafts_of(target: Path) -> None:
    """Likewise the drafts of one file, beside it."""
    _remove_stale(target.parent.glob(f".{escape(target.name)}.*.draft*"))


def _remove_stale(drafts: Iterable[Path]) -> None:
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
