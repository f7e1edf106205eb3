"""What earlier sweeps know: their trials in the space and by the objectives of another sweep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from orchestrator.store.records import EndClass, Result, TrialState

__all__ = ["PriorTrial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTrial:
    """One trial of an earlier sweep."""

    params: dict[str, Any]
    """Values by dotted path, of every parameter that the new sweep searches."""
    objectives: dict[str, float] | None
    """Value by metric of every objective; None: it diverged."""
    excess: dict[str, float] = field(default_factory=dict)
    """How far it lies beyond each constraint, by the constraint's text."""

    def to_dict(self) -> dict[str, Any]:
        """The trial as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """The trial from plain JSON values."""
        return cls(**raw)

    def to_result(self) -> Result:
        """How it ended, as a result of the new sweep would say it."""
        return Result(
            state=TrialState.FAILED if self.objectives is None else TrialState.COMPLETE,
            objective=next(iter((self.objectives or {}).values()), None),
            objectives=self.objectives or {},
            excess=self.excess,
            params=self.params,
            metrics={},
            timing={},
            cause=EndClass.DIVERGED if self.objectives is None else None,
            detail=None,
            attempt=0,
            generation=0,
        )
