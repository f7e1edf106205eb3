"""Which held-out images validate and which test, fixed for ever.

A data set whose publisher held out one labelled part has it cut in two: of every class half validates and
half tests. Rows are drawn by the hash of their number, so the halves depend on no library's random stream
and on no order of reading.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HELD_OUT", "cut_in_half", "rows_digest"]

HELD_OUT = ("val", "test")
"""The splits a student may be scored on."""


def cut_in_half(labels_B: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Ascending row numbers of val and test, half of every class each; an odd image goes to test."""
    halves: dict[str, list[int]] = {split: [] for split in HELD_OUT}
    for label in np.unique(labels_B):
        drawn = sorted(np.flatnonzero(labels_B == label).tolist(), key=_draw)
        half = len(drawn) // 2
        halves["val"] += drawn[:half]
        halves["test"] += drawn[half:]
    return {split: np.array(sorted(rows), dtype=np.int64) for split, rows in halves.items()}


def rows_digest(rows_B: NDArray[Any]) -> str:
    """Hex digest of the row numbers of a split, in their order."""
    return hashlib.sha256(np.ascontiguousarray(rows_B, dtype="<i8").tobytes()).hexdigest()


def _draw(row: int) -> str:
    return hashlib.sha256(f"held-out halves 1, row {row}".encode()).hexdigest()
