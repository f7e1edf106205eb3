"""From the metric lines of a trial to what its result says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cpsc_core.attempt import CLOCK_KEYS

__all__ = ["Verdict", "judge", "objective_value", "summarise"]

_LAST_EPOCHS = 5
_EXCESS_OF_THE_UNKNOWN = 1.0

Line = Mapping[str, Any]


class _Objective(Protocol):
    @property
    def metric(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def of(self) -> Literal["last", "best", "mean5"]: ...


class _Bound(Protocol):
    @property
    def metric(self) -> str: ...
    def excess(self, value: float) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a trial that ran to its end came to."""

    objectives: dict[str, float]
    """Value by metric of every objective that has a finite one."""
    excess: dict[str, float]
    """How far it lies beyond each constraint, as a share of the limit, by the constraint's text."""
    unmeasured: str | None
    """An objective that has no finite value; None if all have one."""

    @property
    def score(self) -> float | None:
        """The first objective's value; None unless every objective is measured and every constraint kept."""
        kept = self.unmeasured is None and all(each <= 0.0 for each in self.excess.values())
        return next(iter(self.objectives.values())) if kept else None


def judge(
    lines: Sequence[Line],
    costs: Mapping[str, float],
    objectives: Sequence[_Objective],
    bounds: Mapping[str, _Bound],
) -> Verdict:
    """What a trial came to by its metric lines and by what its student costs.

    A constraint on something that has no finite value after the last epoch is not kept.
    """
    whole = [*lines[:-1], {**lines[-1], **costs}] if lines else []
    found = {each.metric: objective_value(whole, each.metric, each.direction, each.of) for each in objectives}
    last = {text: objective_value(whole, bound.metric, "minimize", "last") for text, bound in bounds.items()}
    return Verdict(
        objectives={metric: value for metric, value in found.items() if value is not None},
        excess={
            text: _EXCESS_OF_THE_UNKNOWN if value is None else bounds[text].excess(value)
            for text, value in last.items()
        },
        unmeasured=next((metric for metric, value in found.items() if value is None), None),
    )


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
    lines: Sequence[Line],
    costs: Mapping[str, float],
    objectives: Sequence[_Objective],
    teacher_accuracy: float | None,
) -> dict[str, Any]:
    """Metrics of the last epoch, with best and mean-of-last-five of the objectives' metrics and of accuracy.

    Nothing in it depends on the clock or the machine, so results compare to the bit.
    """
    if not lines:
        return {}
    last = {**lines[-1], **costs}
    summary = {key: value for key, value in last.items() if key not in CLOCK_KEYS | {"final"}}
    by_epoch = {each.metric: each.direction for each in objectives if each.metric not in costs}
    for name, way in {**by_epoch, "val_accuracy": "maximize"}.items():
        summary[f"{name}_best"] = objective_value(lines, name, way, "best")
        summary[f"{name}_mean5"] = objective_value(lines, name, way, "mean5")
    return summary | {"teacher_accuracy": teacher_accuracy}
