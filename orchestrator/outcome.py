"""From the metric lines of a trial to what its result says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["CLOCK_KEYS", "objective_value", "summarise"]

CLOCK_KEYS = frozenset({"seconds"})
"""Keys of a metrics line that depend on the clock or the machine."""

_LAST_EPOCHS = 5

Line = Mapping[str, Any]


def objective_value(
    lines: Sequence[Line], metric: str, direction: str, of: Literal["last", "best", "mean5"]
) -> float | None:
    """What a trial is ranked by: its last, best or mean-of-last-five value; None without a finite one."""
    values = [float(line[metric]) for line in lines if metric in line]
    if not values or not math.isfinite(values[-1]):
        return None
    match of:
        case "last":
            return values[-1]
        case "best":
            return max(values) if direction == "maximize" else min(values)
        case "mean5":
            return statistics.fmean(values[-_LAST_EPOCHS:])


def summarise(
    lines: Sequence[Line], metric: str, direction: str, teacher_accuracy: float | None
) -> dict[str, Any]:
    """Metrics of the last epoch, with best and mean-of-last-five of the objective's metric and of accuracy.

    Nothing in it depends on the clock or the machine, so results compare to the bit.
    """
    if not lines:
        return {}
    summary = {key: value for key, value in lines[-1].items() if key not in CLOCK_KEYS | {"final"}}
    for name, way in {metric: direction, "val_accuracy": "maximize"}.items():
        summary[f"{name}_best"] = objective_value(lines, name, way, "best")
        summary[f"{name}_mean5"] = objective_value(lines, name, way, "mean5")
    return summary | {"teacher_accuracy": teacher_accuracy}
