"""Epoch means of the loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["RunningMeans"]


class RunningMeans:
    """Means of named scalars, summed in float64 where the scalars live: adding waits for no device."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._count = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Count the scalars of one step; every step has the same names."""
        row = torch.stack([value.detach() for value in scalars.values()]).double()
        self._names = list(scalars)
        self._sums = row if self._sums is None else self._sums.to(row.device) + row
        self._count += 1

    def means(self) -> dict[str, float]:
        """The mean of each scalar so far; waits for the device."""
        return {name: total / self._count for name, total in self._totals().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything counted so far, exactly."""
        return {"count": self._count, "totals": self._totals()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a state was taken."""
        self._names = list(state["totals"])
        self._sums = (
            torch.tensor(list(state["totals"].values()), dtype=torch.float64) if self._names else None
        )
        self._count = state["count"]

    def _totals(self) -> dict[str, float]:
        totals = [] if self._sums is None else self._sums.tolist()
        return dict(zip(self._names, totals, strict=True))
