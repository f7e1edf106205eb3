"""A folder that is made equal to a bucket: what comes, what goes, and what is left where it is."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket, Stored

__all__ = ["CopiedFolder"]

_AT_ONCE = 16
_SETTLED_NANOSECONDS = 2_000_000_000
_ELSEWHERE = frozenset({"export", "lease", "training"})
_TRIES = 3
_CHECKPOINTS = "/checkpoints/"
_GROWING = (".jsonl", ".txt", ".png")
"""What attempts write once, or only ever append to."""


@dataclass(frozen=True, slots=True, eq=False)
class CopiedFolder:
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
                    path.unlink(missing_ok=True)
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
                shutil.rmtree(point)  # a download that was cut off may have left a draft
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
