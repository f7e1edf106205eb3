"""The folder of a private Ray: made for one run of a controller, removed with it or by the next one."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["is_scratch", "new_scratch", "remove_scratch"]

_PREFIX = "cpsc-ray-"


def new_scratch() -> Path:
    """A path for Ray's folder. A socket's path may have 107 bytes, and Ray's lie in it: it is short."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}-{int(time.time())}"


def is_scratch(path: Path) -> bool:
    """Whether a path is that of such a folder: it may come from a lease that somebody else has written."""
    is_ours = path.parent == Path(tempfile.gettempdir()) and path.name.startswith(_PREFIX)
    return is_ours and not path.is_symlink()


def remove_scratch(scratch: Path) -> None:
    """Remove such a folder; whatever else a path names is left alone."""
    if is_scratch(scratch) and scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
