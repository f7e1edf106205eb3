"""Memory in which the ranks of one machine write what they exchange: a tenth of what a connection costs.

Ranks share batch norm in every layer, so they exchange a few numbers hundreds of times an iteration. Each
time a connection wakes a thread that sends and one that receives, for 0.3 ms; here a rank writes to its place
and looks at the others' until they have written too.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import sys
import time
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

__all__ = ["CAPACITY", "Blackboard", "place"]

CAPACITY = 1024**2
"""Bytes that a tensor may have to be exchanged."""

_LINE = 64
"""Bytes between two counters: no two are in one line of a processor's cache."""
_PATIENCE_SECONDS = 0.02
"""How long a waiting rank keeps its core, except from processes that want it."""
_NAP_SECONDS = 0.001


def place() -> str | None:
    """What processes that can share memory have in common; None where no process can.

    A counter must not be seen before what was written earlier, which these processors promise.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{machine} {Path('/proc/self/ns/pid').readlink()}"


class Blackboard:
    """Where each rank writes a tensor and reads those of the others.

    The first rank makes it, the others open it at its `address`; it has no name and ends with the last of
    them. Every rank holds a lock on its own byte, which the kernel takes from it when it dies. It is used
    once all have opened it.
    """

    def __init__(self, descriptor: int, index: int, world_size: int, timeout_seconds: float) -> None:
        self.address = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._descriptor = descriptor
        self._index, self._world_size = index, world_size
        self._timeout_seconds = timeout_seconds
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
        memory = mmap.mmap(descriptor, _size(world_size))
        self._counters = memoryview(memory)[: world_size * _LINE].cast("q")[:: _LINE // 8]
        self._slots = torch.frombuffer(memory, dtype=torch.uint8)[world_size * _LINE :]
        self._turn = 0

    @classmethod
    def make(cls, world_size: int, timeout_seconds: float) -> Self:
        """The first rank's."""
        descriptor = os.memfd_create("ranks", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _size(world_size))
        return cls(descriptor, 0, world_size, timeout_seconds)

    @classmethod
    def open(cls, address: str, index: int, world_size: int, timeout_seconds: float) -> Self:
        """Another rank's."""
        descriptor = os.open(address, os.O_RDWR | os.O_CLOEXEC)
        return cls(descriptor, index, world_size, timeout_seconds)

    def gather(self, own: Tensor) -> Tensor:
        """The tensors of all ranks, which are alike, stacked in their order: (...) to (ranks, ...).

        RuntimeError if a rank has died or has not written for as long as the timeout.
        """
        self._turn += 1
        # Who writes to a slot for the second next time has seen all others write in between: they have read.
        slots = [self._slot(rank, own) for rank in range(self._world_size)]
        slots[self._index].copy_(own)
        self._counters[self._index] = self._turn
        for rank in range(self._world_size):
            self._wait_for(rank)
        return torch.stack(slots)

    def close(self) -> None:
        """Let go of it; to the others it looks as if this rank had died."""
        os.close(self._descriptor)

    def _slot(self, rank: int, like: Tensor) -> Tensor:
        start = ((self._turn % 2) * self._world_size + rank) * CAPACITY
        return self._slots[start : start + like.nbytes].view(like.dtype).view(like.shape)

    def _wait_for(self, rank: int) -> None:
        began = time.monotonic()
        while not self._has_written(rank):
            waited = time.monotonic() - began
            if waited < _PATIENCE_SECONDS:
                os.sched_yield()
                continue
            if self._is_dead(rank) and not self._has_written(rank):
                raise RuntimeError(f"rank {rank} has died")
            if waited > self._timeout_seconds:
                raise RuntimeError(f"rank {rank} has been silent for {self._timeout_seconds:g} s")
            time.sleep(_NAP_SECONDS)

    def _has_written(self, rank: int) -> bool:
        return self._counters[rank] >= self._turn

    def _is_dead(self, rank: int) -> bool:
        """Whether nobody holds its byte."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, rank)
        except OSError:
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, rank)
        return True


def _size(world_size: int) -> int:
    return world_size * (_LINE + 2 * CAPACITY)
