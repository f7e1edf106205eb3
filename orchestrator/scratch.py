"""The folder of a private Ray: made for one run of a controller, removed with it or by the next one."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["new_scratch", "remove_scratch"]

_PREFIX = "cpsc-ray-"


def new_scratch() -> Path:
    """A path for Ray's folder. A socket's path may have 107 bytes, and Ray's lie in it: it is short."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}-{int(time.time())}"


def remove_scratch(scratch: Path) -> None:
    """Remove such a folder; whatever else a path names is left alone.

    The path may come from a sweep's lease, which somebody else may have written.
    """
    is_ours = scratch.parent == Path(tempfile.gettempdir()) and scratch.name.startswith(_PREFIX)
    if is_ours and scratch.is_dir() and not scratch.is_symlink():
        shutil.rmtree(scratch, ignore_errors=True)
