"""Random draws are functions of counters, never of a running stream: this is the function."""

from __future__ import annotations

import hashlib

__all__ = ["stream_seed"]


def stream_seed(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> int:
    """The seed, below 2**56, for one purpose at one step; the same on every rank and after every restart."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}/{step}".encode()).digest()[:7])
