"""Room in a sweep's storage: trials begin where there is enough of it, and records wait for it."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cpsc_core.attempt import make_folder
from orchestrator.errors import UnreachableError
from orchestrator.store.paths import SweepPaths

__all__ = ["Space", "make_room", "storage_fails"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILS = _FULL | {
    errno.EACCES,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOTDIR,
    errno.EROFS,
    errno.ESTALE,
}
_CHECKPOINTS = 3
"""Of each trial at once: the newest, the one that is being written, and as much again for all the rest."""
_LEAST_BYTES = 16 * 1024**2
"""Wanted before the first checkpoint is there."""
_TRIALS_LOOKED_AT = 8


_IF_OF_A_FILE = frozenset({errno.EEXIST, errno.EPERM})
"""Is also said of processes: of a file it means permissions, or that there are no hard links."""


def storage_fails(error: OSError) -> bool:
    """Whether an error is of the disk, the file system or its permissions, and not of this program."""
    of_a_file = error.errno in _IF_OF_A_FILE and error.filename is not None
    return of_a_file or error.errno in _FAILS


def make_room(folder: Path, storage: Path) -> None:
    """Make a folder of a storage, and those above it; UnreachableError if nothing can be written there."""
    try:
        make_folder(folder)
    except OSError as error:
        raise UnreachableError(
            f"cannot write to {storage}: {error}; choose another folder with --storage"
        ) from error


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(slots=True)
class Space:
    """The room in a sweep's folder. It is looked at every few seconds, and said once when it is short."""

    paths: SweepPaths
    """The sweep."""
    say: Callable[[str], None]
    """Told that there is too little room, and that there is enough again."""
    is_stopped: Callable[[], bool]
    """Whether somebody asks for a stop: nobody waits then."""
    free_bytes: Callable[[Path], int] = _free_bytes
    """The room on the disk that holds a folder."""
    glance_seconds: float = 5.0
    """How long what was seen of the room holds."""
    wait_seconds: float = 1.0
    """How long to wait before something is written again."""
    _is_short: bool = field(default=False, init=False)
    _looked: float = field(default=float("-inf"), init=False)

    def suffices(self, slots: int) -> bool:
        """Whether a trial may begin where so many run at once."""
        if (now := time.monotonic()) - self._looked >= self.glance_seconds:
            self._looked = now
            wanted = max(_LEAST_BYTES, _CHECKPOINTS * slots * self._checkpoint_bytes())
            self._note(wanted if self.free_bytes(self.paths.root) < wanted else None)
        return not self._is_short

    def wait(self, error: OSError) -> bool:
        """Whether to try again what has failed: after a while if the disk is full, unless asked to stop."""
        if error.errno not in _FULL or self.is_stopped():
            return False
        self._note(_LEAST_BYTES)
        time.sleep(self.wait_seconds)
        return True

    def _note(self, wanted: int | None) -> None:
        """Say what has changed; None: enough is there."""
        if wanted is not None and not self._is_short:
            free = self.free_bytes(self.paths.root)
            self.say(
                f"the disk that holds {self.paths.root} is full: {_mib(free)} free, {_mib(wanted)} wanted; "
                "no trial begins until there is room. Free some, or stop with Ctrl-C and resume later; "
                "nothing is lost either way"
            )
        elif wanted is None and self._is_short:
            self.say("there is room on the disk again; going on")
        self._is_short = wanted is not None

    def _checkpoint_bytes(self) -> int:
        """The largest checkpoint of the trials that were touched last; 0 if there is none."""
        if not self.paths.trials.is_dir():
            return 0
        newest = sorted(self.paths.trials.iterdir(), key=_changed)[-_TRIALS_LOOKED_AT:]
        states = (path for trial in newest for path in trial.glob("attempts/*/checkpoints/*/state.pt"))
        return max(map(_size, states), default=0)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # ranks keep few of them
        return 0


def _mib(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB"
