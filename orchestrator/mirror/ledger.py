"""mirror.json: per tracking URI, the run that mirrors a folder and how much of the folder is there.

It spares work and nothing else: a lost or torn one is made again from what the server holds.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.mirror.tracker import HeldRun, RunStatus
from orchestrator.store.paths import TrialPaths
from orchestrator.store.working_copy import copy_of

__all__ = ["Entry", "locked", "look", "read_entry", "stamp", "write_entry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one server holds of one folder."""

    run_id: str
    """The server's name for the run."""
    status: RunStatus
    """The status it was given last."""
    epoch: int
    """The last epoch whose metrics were sent."""
    images: list[int]
    """Epochs whose grids were sent."""
    seen: str
    """Digest of what the folder looked like when all of it had been sent."""
    files: dict[str, str] = field(default_factory=dict)
    """Digests of the attachments that were sent, by name."""

    def matches(self, held: HeldRun | None) -> bool:
        """Whether the server still holds what is noted here."""
        return held is not None and not held.deleted and self._key == (held.run_id, held.status, held.epoch)

    @property
    def _key(self) -> tuple[str, RunStatus, int]:
        return self.run_id, self.status, self.epoch


def read_entry(path: Path, uri: str) -> Entry | None:
    """What is noted for a URI; None if nothing legible is."""
    raw = _content(path).get(uri)
    try:
        return Entry(**raw | {"status": RunStatus(raw["status"])}) if raw else None
    except (KeyError, TypeError, ValueError):
        return None


def write_entry(path: Path, uri: str, entry: Entry) -> None:
    """Note what a URI holds, whole or not at all; what is noted for other URIs stays.

    Not forced to disk: after a power cut an older note or none costs a question to the server.
    """
    content = _content(path) | {uri: dataclasses.asdict(entry)}
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def look(paths: TrialPaths) -> list[Any]:
    """What a trial's folder looks like from outside: equal as long as nothing mirrored has changed."""
    number = max(paths.attempt_numbers(), default=0)
    attempt = paths.attempt(number)
    files = (paths.record, paths.result, attempt.metrics, attempt.end)
    return [number, len(attempt.sample_epochs()), *(stamp(path) for path in files)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the block runs; other processes that want it wait."""
    with path.with_name(f"{path.name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def stamp(path: Path) -> tuple[int, int]:
    """Equal as long as a file has not changed; zeros if there is none.

    Every working copy of a bucket has times of its own, and what is looked at there only grows.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return 0 if copy_of(path) is not None else found.st_mtime_ns, found.st_size


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
