"""One controller per sweep: a kernel lock that dies with its owner, and a generation that only grows.

The owner holds an flock on the inode at `<sweep>/lease`. Taking over renames a new, already locked inode to
that path, so a paused owner that wakes up finds another inode there and may not write any more.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import FencedError, OwnedError, UnreachableError

__all__ = ["Lease", "describe_owner", "identity", "read_note", "read_owner"]

_PATIENCE_SECONDS = 0.5


@dataclass(slots=True)
class Lease:
    """The right to write into one sweep; a context manager that gives it back."""

    path: Path
    """The lease file."""
    generation: int
    """One more than the previous owner's; every record carries it."""
    previous: dict[str, Any]
    """What the previous owner had noted; empty if there was none."""
    fences: bool
    """Whether that owner was still alive, and was fenced off."""
    _handle: int

    @classmethod
    def acquire(cls, path: Path, *, note: dict[str, Any] | None = None, takeover: bool = False) -> Self:
        """Own the sweep whose lease file is `path`, noting `note` for the next owner.

        With `takeover` a living owner is fenced off instead of respected. Raises OwnedError, naming the
        owner, if another controller holds the sweep.
        """
        current, is_free = _lock_current(path, takeover)
        try:
            previous = _content(path)
            generation = int(previous.get("generation", 0)) + 1
            handle = _install(path, identity() | {"generation": generation} | (note or {}))
        finally:
            os.close(current)
        return cls(path, generation, previous, not is_free, handle)

    def check(self) -> None:
        """Raise FencedError if another controller has taken the sweep over."""
        if not _is_at(self._handle, self.path):
            raise FencedError(
                f"this controller has lost {self.path.parent.name} to {describe_owner(_content(self.path))}; "
                "it writes nothing more, the other one goes on"
            )

    def release(self) -> None:
        """Give the sweep back; the file stays, so that the generation goes on growing."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read_owner(path: Path) -> str | None:
    """The living controller that owns a sweep, in words; None if nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return describe_owner(_content(path))
    finally:
        os.close(handle)
    return None


def read_note(path: Path) -> dict[str, Any]:
    """What the last owner of a sweep noted; raises OwnedError while there is one."""
    if read_owner(path) is not None:
        raise OwnedError(_owned(path))
    return _content(path)


def _lock_current(path: Path, takeover: bool) -> tuple[int, bool]:
    """A handle on the inode now at `path`, and whether it is locked: not if a living owner is fenced off."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if takeover:
                return handle, False
            os.close(handle)
            # A reader's probe holds the lock for an instant; only a lasting holder is an owner.
            if time.monotonic() > deadline:
                raise OwnedError(_owned(path)) from None
            time.sleep(0.02)
            continue
        if _is_at(handle, path):
            return handle, True
        os.close(handle)


def _install(path: Path, content: dict[str, Any]) -> int:
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(handle, json.dumps(content, indent=1).encode())
    os.fsync(handle)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.replace(path)
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one now at a path; its inode cannot be reused while it is open."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        content: dict[str, Any] = json.loads(text) if text else {}
        int(content.get("generation", 0)), float(content.get("started", 0.0))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreachableError(
            f"{path} is damaged: it is no lease; remove it if nobody runs the sweep"
        ) from error
    return content


def identity() -> dict[str, Any]:
    """What names this process: its number, and the machine, the start and the namespace that number is of."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
        "started": time.time(),
    }


def describe_owner(content: Mapping[str, Any]) -> str:
    """A process by what it noted of itself, in words."""
    if not content:
        return "a controller that is just starting"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(content.get("started", 0.0)))
    return f"process {content.get('pid')} on {content.get('host')} since {since}"


def _owned(path: Path) -> str:
    sweep = path.parent
    return (
        f"sweep {sweep.name} is owned by {describe_owner(_content(path))}; watch it with "
        f"`cpsc-orchestrate status {sweep}`, stop it with `cpsc-orchestrate stop {sweep}`, or, if that "
        f"process is beyond reach, run `cpsc-orchestrate resume {sweep} --takeover`"
    )
