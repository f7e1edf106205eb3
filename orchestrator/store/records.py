"""What the controller writes about a trial: trial.json, result.json, end.json and duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Self, get_type_hints

from cpsc_core.attempt import CLOCK_KEYS
from cpsc_core.limits import fits

__all__ = [
    "AttemptEnd",
    "Duplicate",
    "EndClass",
    "Result",
    "STUDENT_ARCH",
    "Stage",
    "TrialRecord",
    "TrialState",
]

_MEASURED_BY_CLOCKS = CLOCK_KEYS - {"seconds"}
"""What of `timing` a trial is judged by, and not the time that it took."""

STUDENT_ARCH = "student.arch"
"""The one searched path that does not lie in `train`: which network learns."""


class TrialState(StrEnum):
    """Where a trial stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the trial has a result."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


class Stage(StrEnum):
    """Which stage of a sweep asked for a trial."""

    SEARCH = "search"
    CONFIRM = "confirm"


class EndClass(StrEnum):
    """How an attempt ended; the failures among them have a retry budget each."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    INFRASTRUCTURE = "infrastructure"
    OUT_OF_MEMORY = "out_of_memory"
    HANG = "hang"
    DIVERGED = "diverged"
    DATA = "data"
    ERROR = "error"

    @property
    def is_failure(self) -> bool:
        """Whether the attempt ended short of what it was started for."""
        return self not in (EndClass.COMPLETE, EndClass.PRUNED, EndClass.STOPPED)


class _Record:
    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The record from plain JSON values; keys of a newer version are left out.

        Raises ValueError, saying which key, if one is missing or is not what it should be.
        """
        values = {}
        for each in dataclasses.fields(cls):  # type: ignore[arg-type]
            if each.name in raw:
                values[each.name] = raw[each.name]
                if not fits(raw[each.name], _kinds(cls)[each.name]):  # type: ignore[arg-type]
                    raise ValueError(f"its {each.name} is {raw[each.name]!r:.60}")
            elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
                raise ValueError(f"it has no {each.name}")
        return cls(**values)


@cache
def _kinds(record: type[Any]) -> dict[str, Any]:
    return get_type_hints(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord(_Record):
    """trial.json: what the trial is. Written once, before the trial starts."""

    name: str
    """The trial's hash, which is also its folder."""
    number: int | None
    """The sampler's number of the suggestion, from 0; null for a confirm trial."""
    stage: Stage
    """Which stage asked for it."""
    params: dict[str, Any]
    """The searched parameters by dotted path."""
    distributions: dict[str, str]
    """Each parameter's distribution as Optuna writes it in JSON."""
    system_attrs: dict[str, Any]
    """What the sampler noted beside the suggestion, JSON only."""
    settings: dict[str, Any]
    """The fully resolved settings, see cpsc_core.settings.TrialSettings."""
    created: float
    """Unix time of the record, seconds."""
    generation: int
    """Generation of the lease it was written under."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", Stage(self.stage))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(_Record):
    """result.json: how the trial ended. Nothing in `metrics` depends on the clock or the machine."""

    state: TrialState
    """complete, pruned or failed."""
    objective: float | None
    """Value the sweep ranks by, the first objective's; null unless complete."""
    params: dict[str, Any]
    """The searched parameters by dotted path."""
    metrics: dict[str, Any]
    """Last epoch's metrics, with best and mean-of-last-five of the objective and the teacher's accuracy."""
    timing: dict[str, float]
    """`seconds` and `gpu_seconds` over all attempts, `ended` as Unix time, `latency`, `peak_memory_gb`."""
    cause: str | None
    """Class of the failure (an EndClass value); null unless failed."""
    detail: str | None
    """Why it failed or was pruned, in words; null when complete."""
    attempt: int
    """Number of the attempt the metrics come from."""
    generation: int
    """Generation of the lease it was written under."""
    node: str | None = None
    """Host the failed attempt ran on; null unless failed."""
    lines: list[str] = field(default_factory=list)
    """Last lines of the failed attempt's log."""
    stack: list[str] = field(default_factory=list)
    """Where the failed attempt was, as traceback lines."""
    objectives: dict[str, float] = field(default_factory=dict)
    """Value by metric of every objective; empty unless complete."""
    excess: dict[str, float] = field(default_factory=dict)
    """How far it lies beyond each constraint, as a share of the limit; 0 or less keeps it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", TrialState(self.state))

    @property
    def measured(self) -> dict[str, Any]:
        """Every number of it: the metrics, and what depends on the clock or the machine, such as latency."""
        return self.metrics | {
            name: self.timing[name] for name in sorted(_MEASURED_BY_CLOCKS) if name in self.timing
        }

    @property
    def is_feasible(self) -> bool:
        """Whether it keeps every constraint."""
        return all(excess <= 0.0 for excess in self.excess.values())

    @property
    def score(self) -> float | None:
        """Value it is ranked by; None unless it is complete and keeps every constraint."""
        return self.objective if self.is_feasible else None


@dataclass(frozen=True, kw_only=True)
class AttemptEnd(_Record):
    """end.json: how one attempt ended, in the controller's words."""

    ended: EndClass
    """The class, which decides whether the trial is tried again; the key "class" of the file."""
    cause: str | None = None
    """One sentence; null when nothing went wrong."""
    node: str | None = None
    """Host the attempt ran on."""
    exit: int | None = None
    """Exit code of the process that crashed, as a shell gives it; null unless one did."""
    seconds: float = 0.0
    """Seconds of the attempt's own work."""
    gpus: float = 0.0
    """GPUs it held meanwhile."""
    lines: list[str] = field(default_factory=list)
    """Last lines of its log; empty unless it failed."""
    stack: list[str] = field(default_factory=list)
    """Where it was when it failed, as traceback lines."""
    fingerprint: str | None = None
    """Equal for failures of the same kind at the same place; null where trying again may well help."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ended", EndClass(self.ended))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        plain = dataclasses.asdict(self)
        return {"class": plain.pop("ended")} | plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The record from plain JSON values."""
        return super().from_dict({"ended" if key == "class" else key: value for key, value in raw.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(_Record):
    """duplicates/<number>.json: a suggestion that named a trial which already existed."""

    number: int
    """The sampler's number of the suggestion."""
    name: str
    """The trial it named."""
    params: dict[str, Any]
    """The searched parameters by dotted path."""
    distributions: dict[str, str]
    """Each parameter's distribution as Optuna writes it in JSON."""
    system_attrs: dict[str, Any]
    """What the sampler noted beside the suggestion."""
    generation: int
    """Generation of the lease it was written under."""
