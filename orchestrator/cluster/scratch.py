"""The folder of a private Ray: made for one run of a controller, removed with it or by the next one."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from orchestrator.errors import UnreachableError

__all__ = ["is_scratch", "make_scratch", "new_scratch", "remove_scratch"]

_PREFIX = "cpsc-ray-"


def new_scratch() -> Path:
    """A path for Ray's folder that nobody can guess; it is short, for a socket's path may have 107 bytes."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(5)}"


def make_scratch(scratch: Path) -> None:
    """Make such a folder, which nobody else may look into; UnreachableError if somebody else has made it."""
    try:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = scratch.lstat()
    except OSError as error:
        raise UnreachableError(
            f"{scratch} cannot be made: {error.strerror}; set TMPDIR to a folder"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnreachableError(f"{scratch} is somebody else's, or open to others; remove it, and try again")


def is_scratch(path: Path) -> bool:
    """Whether a path is that of such a folder: it may come from a lease that somebody else has written."""
    is_ours = path.parent == Path(tempfile.gettempdir()) and path.name.startswith(_PREFIX)
    return is_ours and not path.is_symlink()


def remove_scratch(scratch: Path) -> None:
    """Remove such a folder; whatever else a path names is left alone."""
    if is_scratch(scratch) and scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
