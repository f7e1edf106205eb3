"""What one trial takes up on the machines of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The processes of one trial."""

    workers: int
    """Ranks."""
    cpus: int
    """CPUs of each rank, which are also its threads."""
    gpus: float
    """GPUs of each rank."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether ranks are put together on as few machines as possible, or on as many."""
    interface: str | None = None
    """Network interface they talk through; None: that of the machine's address."""
    start_seconds: float = 120.0
    """What they may take to find each other, and then to load torch, data and networks."""

    @property
    def all_gpus(self) -> float:
        """GPUs of all ranks together."""
        return self.workers * self.gpus

    @property
    def device(self) -> str:
        """The torch device of each rank, which sees no GPU but its own."""
        return "cuda" if self.gpus else "cpu"

    def bundles(self) -> list[dict[str, float]]:
        """The placement group of a trial: an empty bundle for the driver, then one for each rank."""
        rank = {"CPU": float(self.cpus)} | ({"GPU": self.gpus} if self.gpus else {})
        return [{}] + [dict(rank) for _ in range(self.workers)]
