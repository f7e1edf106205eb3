"""Between a bucket and a machine that runs a trial: what the trial needs comes, what it makes goes.

A rank writes an attempt as it always does, into a folder of its own machine that goes away with the trial.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from cpsc_core.attempt import AttemptPaths
from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket

__all__ = ["Courier"]

_PREFIX = "cpsc-trial-"
_AT_ONCE = 8
_LOG_SECONDS = 0.5
_STATE, _MANIFEST = "state.pt", "manifest.json"


class Courier:
    """One rank's errands for one attempt; only the first rank's has anything to send."""

    def __init__(self, trial: BucketAddress, attempt: int, *, sends: bool) -> None:
        """Make a folder on this machine for an attempt of the trial at an address; nothing is fetched yet.

        Folders that processes left here when they were killed are removed first.
        """
        _remove_abandoned()
        self._bucket = Bucket(trial)
        self._sends = sends
        self._root, self._lock = _make_folder()
        self.folder = self._root / trial.name
        """The trial's folder on this machine."""
        self._attempt = AttemptPaths.of(self.folder, attempt)
        self._sent: dict[str, tuple[int, int]] = {}
        self._sending = threading.Lock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._follow_log, name="courier", daemon=True)

    def fetch(self) -> None:
        """Bring what earlier attempts left to go on from; raises UnreachableError if it cannot be had."""
        ours = self._key(self._attempt.root)
        keys = [key for key in self._bucket.objects("attempts") if _is_needed(key, ours)]
        for key in keys:
            (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: self._bucket.download(key, self.folder / key), keys))
        if self._sends:
            self._thread.start()
        else:
            self._attempt.root.mkdir(parents=True)  # else it is the first rank that makes it, elsewhere

    def follow(self, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Fetch, then the lines of an attempt, each once the bucket has all that it stands for."""
        try:
            self.fetch()
            for line in lines:
                self.send()
                yield line
            self.send()
        finally:
            if isinstance(lines, Generator):
                lines.close()

    def send(self) -> None:
        """Send what has changed, in an order in which a crash at any place is harmless.

        Samples and weights, then the metrics line that stands for them, then a checkpoint's state, then the
        manifest that makes it one; what was removed here goes last.
        """
        if not self._sends:
            return
        with self._sending:
            now = {self._key(path): _stamp(path) for path in _files(self._attempt.root)}
            changed = sorted((key for key, stamp in now.items() if self._sent.get(key) != stamp), key=_turn)
            for _, keys in groupby(changed, key=_turn):
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    list(pool.map(lambda key: self._bucket.upload(self.folder / key, key), keys))
            gone = {key.rpartition("/")[0] for key in self._sent.keys() - now.keys() if key.endswith(_STATE)}
            for checkpoint in sorted(gone):
                self._bucket.delete_folder(checkpoint)
            self._sent = now

    def send_log(self) -> None:
        """Send the log as well as it can be done: an attempt that has failed has nothing else to say."""
        log, key = self._attempt.log, self._key(self._attempt.log)
        with suppress(UnreachableError, OSError), self._sending:
            if self._sends and log.exists() and self._sent.get(key) != (stamp := _stamp(log)):
                self._bucket.upload(log, key)
                self._sent[key] = stamp

    def close(self) -> None:
        """Remove the folder."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join()
        self.send_log()
        shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)

    def _follow_log(self) -> None:
        """A process that hangs is killed: where it hung is in its log, which has to leave before."""
        while not self._leaving.wait(_LOG_SECONDS):
            self.send_log()

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _is_needed(key: str, ours: str) -> bool:
    """Whether a new attempt reads it: metrics and checkpoints, and what ran the attempt before."""
    name = key.rpartition("/")[2]
    goes_on_from = "/checkpoints/" in key or name in ("metrics.jsonl", "process.json")
    return goes_on_from and not key.startswith(f"{ours}/")


def _turn(key: str) -> int:
    """When a file is sent: 0 first."""
    name = key.rpartition("/")[2]
    if "/checkpoints/" in key:
        return 3 if name == _MANIFEST else 2
    return 1 if name == "metrics.jsonl" else 0


def _files(folder: Path) -> Iterator[Path]:
    """The files of an attempt, without drafts and what lies in them."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _make_folder() -> tuple[Path, int]:
    """A folder, and the handle of the lock that says that this process lives."""
    root = Path(tempfile.mkdtemp(prefix=_PREFIX))
    draft = root / ".lock.draft"
    handle = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.replace(root / ".lock")  # nobody meets a lock that is not held
    return root, handle


def _remove_abandoned() -> None:
    """Remove the folders of processes on this machine that live no more."""
    for root in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if root.is_symlink() or root.stat().st_uid != os.getuid():
                continue
            handle = os.open(root / ".lock", os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
            finally:
                os.close(handle)
