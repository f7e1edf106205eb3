"""Who kills, whom, and whether anybody is left: processes are found by a mark in their environment."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = ["MARK", "Killer", "Victim"]

MARK = "CPSC_CHAOS"


class Victim(StrEnum):
    """A kind of process, by what its command line has."""

    RANK = "ray::RankProcess"
    DRIVER = "ray::TrialDriver"
    RAYLET = "raylet/raylet"
    GCS = "gcs/gcs_server"


@dataclass
class Killer:
    """Sends SIGKILL to processes that carry a mark, which all descendants of a marked process inherit."""

    mark: str
    chance: random.Random
    killed: dict[str, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process whose descendants are to be found."""
        return {**os.environ, MARK: self.mark}

    def alive(self) -> dict[int, str]:
        """Every living marked process with its command line."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and self._is_marked(folder):
                found[int(folder.name)] = _command_line(folder)
        return found

    def kill_one(self, kind: Victim) -> int | None:
        """Kill a random process of a kind; its pid, None if there is none."""
        pids = sorted(pid for pid, command in self.alive().items() if kind in command)
        if not pids:
            return None
        pid = self.chance.choice(pids)
        return pid if self._kill(pid, kind.name.lower()) else None

    def kill_controller(self, pid: int, *, group: bool) -> None:
        """Kill a controller: its process alone, or with it all that are in its process group."""
        os.killpg(pid, signal.SIGKILL) if group else os.kill(pid, signal.SIGKILL)
        self._count("controller")

    def survivors(self, seconds: float = 90.0) -> dict[int, str]:
        """Marked processes that are still alive after some time; returns as soon as there are none.

        Ray's agents notice after ten seconds that their parent is gone, and then try to tell those who are
        gone as well.
        """
        deadline = time.monotonic() + seconds
        while (alive := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive

    def _kill(self, pid: int, kind: str) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._count(kind)
        return True

    def _count(self, kind: str) -> None:
        self.killed[kind] = self.killed.get(kind, 0) + 1

    def _is_marked(self, folder: Path) -> bool:
        try:
            return f"{MARK}={self.mark}\0".encode() in (folder / "environ").read_bytes()
        except OSError:
            return False


def _command_line(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
