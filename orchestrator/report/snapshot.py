"""A sweep read once, for whoever asks it for its trials many times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orchestrator.store.folder import SweepFolder, TrialFolder

__all__ = ["SweepSnapshot"]


@dataclass(frozen=True)
class SweepSnapshot(SweepFolder):
    """A sweep whose trials stay as they were when they were first asked for."""

    def trials(self) -> list[TrialFolder]:
        """Every trial, in the order of `SweepFolder.trials`."""
        return list(self._trials)

    @cached_property
    def _trials(self) -> list[TrialFolder]:
        return SweepFolder.trials(self)
