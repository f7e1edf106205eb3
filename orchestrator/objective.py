"""What a sweep ranks by, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Objective", "objective_of", "objectives_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a sweep ranks by."""

    metric: str = "val_accuracy"
    """Key of a metrics line."""
    direction: str = "maximize"
    """maximize or minimize."""
    of: Literal["last", "best", "mean5"] = "last"
    """Which value of a trial counts: last, best or mean5."""


def objectives_of(manifest: Mapping[str, Any]) -> tuple[Objective, ...]:
    """The sweep's objectives in order."""
    noted = manifest.get("objective") or {}
    return tuple(
        Objective(**{key: each[key] for key in ("metric", "direction", "of") if key in each})
        for each in (noted if isinstance(noted, list) else [noted])
    )


def objective_of(manifest: Mapping[str, Any]) -> Objective:
    """The sweep's objective; of several the first, which is the one ranked by."""
    return objectives_of(manifest)[0]
