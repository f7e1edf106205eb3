"""What a trial's process needs of memory, and how it gives it back.

Importing this does not import torch: whoever only reads what a process said need not load it.
"""

from __future__ import annotations

import gc
import re
import resource
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryUse", "MemoryWatch", "give_back_memory", "processes_killed_for_memory"]

_GIB = 1024**3
_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": _GIB}
_WANTED = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", re.IGNORECASE)
_HEADROOM = 0.9
"""Share of what is left that a smaller batch is promised: memory is handed out in blocks."""

_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_EVENTS = Path("/proc/vmstat")
_CONTAINER = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of one process, in bytes: of its GPU if it has one, else of the machine."""

    held: int
    """Between two iterations: weights, optimisers, images."""
    peak: int
    """The most there was at once."""
    limit: int
    """The most there can be."""

    def fitting(self, batch_size: int, ranks: int = 1) -> int | None:
        """The largest global batch size that should fit, if memory beside `held` grows with the batch.

        None if not even one image for each rank would.
        """
        used, free = self.peak - self.held, (self.limit - self.held) * _HEADROOM
        if used <= 0 or free <= 0:
            return None
        fits = int(min(batch_size * free / used, batch_size - 1))
        return fits - fits % ranks or None

    def explain(self, batch_size: int, ranks: int = 1) -> str:
        """Peak, limit and a batch size that would fit, in words."""
        fits = self.fitting(batch_size, ranks)
        advice = (
            f"a batch_size of about {fits} instead of {batch_size} would fit"
            if fits
            else "not even the smallest batch would fit"
        )
        return f"it needs {self.peak / _GIB:.2f} GiB or more of {self.limit / _GIB:.2f} GiB; {advice}"


class MemoryWatch:
    """Follows what one trial needs on a device."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device.startswith("cuda")
        self._held = 0

    def note_idle(self) -> None:
        """Call between two iterations, when nothing is held but what stays."""
        self._held = self._allocated()

    def use(self, error: BaseException | None = None) -> MemoryUse:
        """What is needed so far; with an error, what it says was wanted on top counts as needed."""
        wanted = _WANTED.search(str(error)) if error is not None else None
        asked = int(float(wanted[1]) * _UNITS[wanted[2]]) if wanted else 0
        return MemoryUse(held=self._held, peak=max(self._peak(), self._held + asked), limit=self._limit())

    def _allocated(self) -> int:
        if self._on_gpu:
            import torch

            return torch.cuda.memory_allocated()
        return _kibibytes(_STATUS, "VmRSS" if _own_limit() is None else "VmSize")

    def _peak(self) -> int:
        if self._on_gpu:
            import torch

            return torch.cuda.max_memory_allocated()
        return _kibibytes(_STATUS, "VmHWM" if _own_limit() is None else "VmPeak")

    def _limit(self) -> int:
        if self._on_gpu:
            import torch

            return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        if (own := _own_limit()) is not None:
            return own
        limits = (_kibibytes(_MACHINE, "MemTotal"), *map(_number, _CONTAINER))
        return min(each for each in limits if each > 0)


def give_back_memory() -> None:
    """Free what nobody refers to any more, on the GPU too, and start to measure the peak anew."""
    gc.collect()
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def processes_killed_for_memory() -> int:
    """How many processes the kernel of this machine has killed because memory ran out."""
    return _number_after(_EVENTS, "oom_kill")


def _own_limit() -> int | None:
    """The most address space this process may have, in bytes; None where it may have any."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _kibibytes(path: Path, key: str) -> int:
    return 1024 * _number_after(path, f"{key}:")


def _number_after(path: Path, key: str) -> int:
    """The number on the line of a key, 0 if the system does not tell."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words and words[0] == key), 0)


def _number(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
