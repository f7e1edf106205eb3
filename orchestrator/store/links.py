"""A sweep's folder has no links: what is read, written or removed below it lies below it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import UsageError

__all__ = ["refuse_links"]


def refuse_links(root: Path) -> None:
    """Raise UsageError if anything below a folder is a symbolic link; the folder itself may be one."""
    waiting = [str(root)]
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:  # ranks remove checkpoints
            for entry in entries:
                if entry.is_symlink():
                    raise UsageError(
                        f"{entry.path} is a link, and what is written through it would lie elsewhere; "
                        "a sweep's folder has none: put what it leads to in its place, or remove it"
                    )
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
