"""Digests of files, computed once.

The digest of a large data set takes minutes, and every trial asks for it. So digests are remembered in the
user's cache folder, with size, time of change and inode of the file they belong to; a file of which any of
them differs is read again. One that was changed in the last two seconds is not remembered: a second change
could hide behind the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cpsc_core.attempt import replacing
from cpsc_core.errors import DataError

__all__ = ["cache_folder", "file_digests"]

_SETTLED_NANOSECONDS = 2_000_000_000
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """The folder for what can be computed again: $XDG_CACHE_HOME or ~/.cache, and our name."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cpsc-orchestrate"


def file_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, in their order; DataError names one that cannot be read."""
    memory = cache_folder() / "digests" / f"{_name_of(paths)}.json"
    known = _recall(memory)
    try:
        stats = [path.stat() for path in paths]
        marks = [[stat.st_size, stat.st_mtime_ns, stat.st_ino] for stat in stats]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = list(pool.map(_digest, paths, marks, [known.get(str(path)) for path in paths]))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; check the data set") from error
    now = time.time_ns()
    fresh = {
        str(path): [*mark, digest]
        for path, mark, digest in zip(paths, marks, digests, strict=True)
        if mark[1] < now - _SETTLED_NANOSECONDS
    }
    if fresh != known:
        _remember(memory, fresh)
    return digests


def _name_of(paths: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(map(os.fsencode, paths))).hexdigest()[:24]


def _digest(path: Path, mark: list[int], known: list[Any] | None) -> str:
    if known is not None and known[:3] == mark:
        return str(known[3])
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _recall(memory: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return known if all(len(entry) == 4 for entry in known.values()) else {}
    except (OSError, ValueError, AttributeError, TypeError):  # a damaged memory is no memory
        return {}


def _remember(memory: Path, fresh: dict[str, list[Any]]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as draft:
            draft.write_text(json.dumps(fresh), encoding="utf-8")
    except OSError:  # without a place to remember in, files are read again next time
        return
