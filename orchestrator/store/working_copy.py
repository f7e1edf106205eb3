"""A local copy of storage that lies in a bucket, so that everything else reads and writes files.

    ${XDG_CACHE_HOME:-~/.cache}/cpsc-orchestrate/<digest of the address>-<n>/

The bucket is the truth: a copy is made equal to it before it is read, a record counts when the bucket has it,
and the copy may be deleted whenever no command runs. A process has a copy to itself for as long as it lives;
another one that runs meanwhile takes the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
from itertools import count
from pathlib import Path

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.bucket import Bucket
from orchestrator.store.copied_folder import CopiedFolder

__all__ = [
    "address_of",
    "copy_of",
    "discard",
    "fetch",
    "open_copy",
    "open_storage",
    "origin_of",
    "place_of",
    "publish",
    "refresh",
    "size_of",
]

_ORIGIN = ".origin"


_OPEN: dict[tuple[Path, BucketAddress], tuple[CopiedFolder, int]] = {}
"""The copies that this process has to itself, each with the handle of its lock."""


def open_copy(address: BucketAddress) -> CopiedFolder:
    """This process's copy of the storage at an address; nothing is pulled yet.

    Raises UnreachableError if there is no such bucket.
    """
    base = _cache()
    known = _OPEN.get((base, address))
    if known is not None and _is_still(known[1], known[0].root):
        known[0].root.mkdir(parents=True, exist_ok=True)
        return known[0]
    bucket = Bucket(address)
    if not Bucket(address, pauses=(0.5, 1.0)).is_there():
        raise UnreachableError(f"there is no bucket {address.bucket} for {address}; make it, or name another")
    digest = hashlib.sha256(str(address).encode()).hexdigest()[:16]
    root, handle = next(
        (root, handle)
        for number in count(1)
        if (handle := _claim(root := base / f"{digest}-{number}")) is not None
    )
    root.mkdir(exist_ok=True)
    (root / _ORIGIN).write_text(f"{address}\n", encoding="utf-8")
    copy = CopiedFolder(root, bucket)
    _OPEN[base, address] = (copy, handle)
    return copy


def open_storage(storage: Storage) -> Path:
    """The folder in which a storage is read and written: itself, or the copy of a bucket."""
    if isinstance(storage, BucketAddress):
        return open_copy(storage).root
    return storage.expanduser().resolve()


def origin_of(root: Path) -> BucketAddress | None:
    """The address that a storage folder is a copy of, whoever made it; None for one of its own."""
    try:
        return BucketAddress.parse((root / _ORIGIN).read_text(encoding="utf-8").strip())
    except (FileNotFoundError, NotADirectoryError):
        return None


def copy_of(path: Path) -> CopiedFolder | None:
    """The copy of this process in which a path lies; None for any other path."""
    return next((copy for copy, _ in _OPEN.values() if path.is_relative_to(copy.root)), None)


def refresh(folder: Path) -> None:
    """Make a folder of a copy equal to the bucket, see `CopiedFolder.pull`; leave any other as it is."""
    if (copy := copy_of(folder)) is not None:
        copy.pull(folder)


def fetch(path: Path) -> bool:
    """Whether a file or folder is there, brought from the bucket first if it lies in a copy."""
    if path.exists() and not path.is_dir():
        return True
    copy = copy_of(path)
    return path.exists() if copy is None else copy.fetch(path)


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of everything in a folder, here or in the bucket; None if there is none."""
    if (copy := copy_of(path)) is not None:
        return copy.size(path)
    if path.is_dir() and not path.is_symlink():
        return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
    return path.lstat().st_size if path.exists() or path.is_symlink() else None


def publish(*paths: Path) -> None:
    """Write files of one sweep to the bucket that it is a copy of, if it is; returns when they are there."""
    if paths and (copy := copy_of(paths[0])) is not None:
        copy.publish(*paths)


def discard(path: Path, *, is_folder: bool = False) -> None:
    """Remove from the bucket what a path is a copy of, if it is one."""
    if (copy := copy_of(path)) is not None:
        copy.discard(path, is_folder=is_folder)


def place_of(path: Path) -> Storage:
    """Where other machines find what a path is: the path itself, or an address, if it lies in a copy."""
    copy = copy_of(path)
    return path if copy is None else copy.address(path)


def address_of(path: Path) -> str:
    """What to call a path in a command that a person may copy: an address, if it lies in a copy."""
    return shlex.quote(str(place_of(path)))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser().resolve() / "cpsc-orchestrate"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _claim(root: Path) -> int | None:
    """A lock that lasts as long as this process; None if another one has it."""
    handle = os.open(_lock_of(root), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _lock_of(root: Path) -> Path:
    return root.with_name(f"{root.name}.lock")


def _is_still(handle: int, root: Path) -> bool:
    """Whether a lock is the one that others would meet: the cache may have been deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), _lock_of(root).stat())
    except FileNotFoundError:
        return False
