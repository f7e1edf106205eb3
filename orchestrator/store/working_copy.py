"""A local copy of storage that lies in a bucket, so that everything else reads and writes files.

    ${XDG_CACHE_HOME:-~/.cache}/cpsc-orchestrate/<digest of the address>-<n>/

The bucket is the truth: a copy is made equal to it before it is read, a record counts when the bucket has it,
and the copy may be deleted whenever no command runs. A process has a copy to itself for as long as it lives;
another one that runs meanwhile takes the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.bucket import Bucket, Stored

__all__ = [
    "WorkingCopy",
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
_AT_ONCE = 16
_SETTLED_NANOSECONDS = 2_000_000_000
_ELSEWHERE = frozenset({"export", "lease", "training"})
_TRIES = 3
_CHECKPOINTS = "/checkpoints/"
_GROWING = (".jsonl", ".txt", ".png")
"""What attempts write once, or only ever append to."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkingCopy:
    """What a bucket's sweeps look like as files; weights and checkpoints only once they were fetched."""

    root: Path
    """The folder that stands for the bucket's prefix."""
    bucket: Bucket
    """What it is a copy of."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pull(self, folder: Path) -> None:
        """Make a folder equal to the bucket: what is new comes, what the bucket does not have goes.

        Weights do not come, and of checkpoints the empty folders; exports, leases and drafts are left alone.
        """
        with self._lock:
            found = self.bucket.objects(self._key(folder))
            there = {key: stored for key, stored in found.items() if _is_copied(key)}
            settled = max((each.modified for each in there.values()), default=0) - _SETTLED_NANOSECONDS
            here = {self._key(path): path for path in folder.rglob("*") if path.is_file()}
            for key, path in here.items():
                if _is_copied(key) and not _is_current(path, there.get(key)):
                    if key in there and not _is_large(key):
                        continue  # it is replaced in one step, so that nobody misses it
                    path.unlink()
            self._show_checkpoints(folder, there)
            wanted = [
                stored
                for key, stored in there.items()
                if not _is_large(key) and not (key in here and _is_current(here[key], stored))
            ]
            self._download(wanted, settled)

    def _show_checkpoints(self, folder: Path, there: Iterable[str]) -> None:
        points = {self.root / key.rpartition("/")[0] for key in there if _CHECKPOINTS in key}
        for point in folder.rglob(f"{_CHECKPOINTS[1:]}*"):
            if point.is_dir() and point not in points and not point.name.startswith("."):
                point.rmdir()
        for point in points:
            point.mkdir(parents=True, exist_ok=True)

    def fetch(self, path: Path) -> bool:
        """Bring a file, or all files of a folder, whatever their size; whether there is such a thing."""
        with self._lock:
            key = self._key(path)
            found = self.bucket.objects(self._key(path.parent))
            wanted = [
                stored
                for each, stored in found.items()
                if (each == key or each.startswith(f"{key}/")) and _is_copied(each)
            ]
            missing = [stored for stored in wanted if not _is_current(self.root / stored.key, stored)]
            self._download(missing, max((each.modified for each in found.values()), default=0) + 1)
            return bool(wanted)

    def publish(self, *paths: Path) -> None:
        """Write files to the bucket, in no order; returns when it has them."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda path: self.bucket.upload(path, self._key(path)), paths))

    def holds(self, path: Path) -> bool:
        """Whether the bucket has a file."""
        return self.bucket.has(self._key(path))

    def size(self, path: Path) -> int | None:
        """Bytes that the bucket has of a file, or of everything in a folder; None if it has none."""
        key = self._key(path)
        found = self.bucket.objects(self._key(path.parent))
        sizes = [each.size for name, each in found.items() if name == key or name.startswith(f"{key}/")]
        return sum(sizes) if sizes else None

    def discard(self, path: Path, *, is_folder: bool) -> None:
        """Remove a file, or everything in a folder, from the bucket; what is here stays."""
        if is_folder:
            self.bucket.delete_folder(self._key(path))
        else:
            self.bucket.delete(self._key(path))

    def address(self, path: Path) -> BucketAddress:
        """What a path here is a copy of."""
        key = self._key(path)
        return self.bucket.address / key if key else self.bucket.address

    def _key(self, path: Path) -> str:
        key = path.relative_to(self.root).as_posix()
        return "" if key == "." else key

    def _download(self, wanted: Iterable[Stored], settled: int) -> None:
        """Bring files that lie where their keys say; one written lately is not known to be current."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(partial(self._bring, settled=settled), wanted))

    def _bring(self, stored: Stored, settled: int) -> None:
        path = self.root / stored.key
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(_TRIES):
                self.bucket.download(stored.key, draft)
                if path.suffix != ".json" or _is_json(draft):  # else it was replaced while it was read
                    break
            # a store that notes whole seconds may change a file once more, and its size not, unnoticed
            moment = stored.modified - (stored.modified >= settled and not stored.key.endswith(_GROWING))
            os.utime(draft, ns=(moment, moment))
            draft.replace(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UnreachableError(
                f"{self.bucket.address} has an object and a folder of the name {stored.key} or of a part of "
                "it; remove one of them"
            ) from error
        except FileNotFoundError:
            return  # it was removed after it had been listed
        finally:
            if draft.is_file():
                draft.unlink()


_OPEN: dict[tuple[Path, BucketAddress], tuple[WorkingCopy, int]] = {}
"""The copies that this process has to itself, each with the handle of its lock."""


def open_copy(address: BucketAddress) -> WorkingCopy:
    """This process's copy of the storage at an address; nothing is pulled yet.

    Raises UnreachableError if there is no such bucket.
    """
    base = _cache()
    known = _OPEN.get((base, address))
    if known is not None and _is_still(known[1], known[0].root):
        known[0].root.mkdir(parents=True, exist_ok=True)
        return known[0]
    bucket = Bucket(address)
    if not bucket.is_there():
        raise UnreachableError(f"there is no bucket {address.bucket} for {address}; make it, or name another")
    digest = hashlib.sha256(str(address).encode()).hexdigest()[:16]
    root, handle = next(
        (root, handle)
        for number in count(1)
        if (handle := _claim(root := base / f"{digest}-{number}")) is not None
    )
    root.mkdir(exist_ok=True)
    (root / _ORIGIN).write_text(f"{address}\n", encoding="utf-8")
    copy = WorkingCopy(root, bucket)
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


def copy_of(path: Path) -> WorkingCopy | None:
    """The copy of this process in which a path lies; None for any other path."""
    return next((copy for copy, _ in _OPEN.values() if path.is_relative_to(copy.root)), None)


def refresh(folder: Path) -> None:
    """Make a folder of a copy equal to the bucket, see `WorkingCopy.pull`; any other one is left as it is."""
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


def _is_copied(key: str) -> bool:
    """Whether an object is part of what a copy shows."""
    first, *others = key.split("/")
    hidden = any(part.startswith(".") for part in (first, *others)) or key.endswith(".lock")
    return not hidden and not _ELSEWHERE.intersection(others)


def _is_large(key: str) -> bool:
    """Whether an object is only brought when it is asked for."""
    return key.endswith(".safetensors") or _CHECKPOINTS in key


def _is_current(path: Path, stored: Stored | None) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return stored is not None and (found.st_size, found.st_mtime_ns) == (stored.size, stored.modified)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
