"""Which configurations are best: search trials by their objective, confirmed ones by fresh seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from orchestrator.outcome import objective_value
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import Stage, TrialRecord, TrialState

__all__ = [
    "Confirmation",
    "Goal",
    "Objective",
    "confirmations",
    "leaderboard_document",
    "objective_of",
    "order",
    "rank",
]


class Goal(Protocol):
    """Anything that knows which way the objective is better."""

    @property
    def direction(self) -> str:
        """maximize or minimize."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a sweep ranks by."""

    metric: str = "val_accuracy"
    """Key of a metrics line."""
    direction: str = "maximize"
    """maximize or minimize."""
    of: str = "last"
    """Which value of a trial counts: last, best or mean5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """How a configuration did when it was run again with fresh seeds."""

    seeds: int
    """Complete confirm trials."""
    val_mean: float
    """Mean accuracy on the validation split, after the last epoch."""
    val_std: float | None
    """Its sample standard deviation over the seeds; null with one seed."""
    test_mean: float | None
    """Mean accuracy on the test split; null if it was not measured."""
    test_std: float | None
    """Its sample standard deviation; null with one seed."""


def objective_of(manifest: Mapping[str, Any]) -> Objective:
    """The sweep's objective; of several the first, which is the one ranked by."""
    noted = manifest.get("objective") or {}
    first: Mapping[str, Any] = noted[0] if isinstance(noted, list) else noted
    return Objective(**{key: first[key] for key in ("metric", "direction", "of") if key in first})


def rank(trials: Iterable[TrialFolder], objective: Goal) -> list[TrialFolder]:
    """Complete search trials, best objective first, ties by number.

    Pruned and failed trials are left out, and so is a trial whose objective is not a number.
    """
    sign = -1.0 if objective.direction == "maximize" else 1.0
    scored = ((trial, _objective(trial)) for trial in trials if trial.record.stage is Stage.SEARCH)
    ranked = [(sign * value, trial) for trial, value in scored if value is not None]
    return [trial for _, trial in sorted(ranked, key=lambda pair: (pair[0], _number(pair[1])))]


def order(trials: Sequence[TrialFolder], objective: Goal) -> list[TrialFolder]:
    """Complete search trials, the confirmed ones first, by their mean validation accuracy.

    Fresh seeds count only once no confirm trial is unfinished, and only for configurations with the full
    number of seeds; before that, and for the others, the search's own ranking holds.
    """
    ranked = rank(trials, objective)
    confirmed = confirmations(trials)
    unfinished = any(each.record.stage is Stage.CONFIRM and each.result is None for each in trials)
    if unfinished or not confirmed:
        return ranked
    full = max(each.seeds for each in confirmed.values())
    means = {name: each.val_mean for name, each in confirmed.items() if each.seeds == full}
    return sorted(ranked, key=lambda trial: -means.get(trial.name, -math.inf))


def confirmations(trials: Iterable[TrialFolder]) -> dict[str, Confirmation]:
    """Per search trial, by hash, what its configuration's complete confirm trials found."""
    trials = list(trials)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        if trial.record.stage is Stage.CONFIRM and trial.state is TrialState.COMPLETE and trial.result:
            groups.setdefault(_configuration(trial.record), []).append(trial.result.metrics)
    searched = {
        each.name: _configuration(each.record) for each in trials if each.record.stage is Stage.SEARCH
    }
    return {name: _summary(groups[key]) for name, key in searched.items() if key in groups}


def leaderboard_document(folder: SweepFolder) -> dict[str, Any]:
    """The leaderboard as plain JSON values, best configuration first."""
    manifest, trials = folder.manifest, folder.trials()
    objective, confirmed = objective_of(manifest), confirmations(trials)
    rows = [_row(trial, objective, confirmed.get(trial.name)) for trial in order(trials, objective)]
    return {
        "sweep": folder.name,
        "objective": asdict(objective),
        "teacher": {key: (manifest.get("teacher") or {}).get(key) for key in _TEACHER_KEYS},
        "rows": [{"rank": position, **row} for position, row in enumerate(rows, start=1)],
    }


_TEACHER_KEYS = ("arch", "accuracy", "test_accuracy")


def _objective(trial: TrialFolder) -> float | None:
    if trial.state is not TrialState.COMPLETE or trial.result is None or trial.result.objective is None:
        return None
    return None if math.isnan(trial.result.objective) else trial.result.objective


def _number(trial: TrialFolder) -> float:
    return math.inf if trial.record.number is None else trial.record.number


def _configuration(record: TrialRecord) -> str:
    """Equal exactly for trials that differ in nothing but their seed and the splits they are scored on."""
    train = {key: value for key, value in record.settings.get("train", {}).items() if key != "seed"}
    settings = {key: value for key, value in record.settings.items() if key != "splits"}
    return json.dumps(settings | {"train": train}, sort_keys=True)


def _summary(metrics: Sequence[Mapping[str, Any]]) -> Confirmation:
    val = [float(each["val_accuracy"]) for each in metrics]
    test = [float(each["test_accuracy"]) for each in metrics if each.get("test_accuracy") is not None]
    return Confirmation(
        seeds=len(val),
        val_mean=statistics.fmean(val),
        val_std=_deviation(val),
        test_mean=statistics.fmean(test) if test else None,
        test_std=_deviation(test),
    )


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _row(trial: TrialFolder, objective: Objective, confirmed: Confirmation | None) -> dict[str, Any]:
    lines, metric, direction = trial.history, objective.metric, objective.direction
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "objective": _objective(trial),
        "last": objective_value(lines, metric, direction, "last"),
        "best": objective_value(lines, metric, direction, "best"),
        "mean5": objective_value(lines, metric, direction, "mean5"),
        "label_fidelity": lines[-1].get("label_fidelity") if lines else None,
        "params": trial.record.params,
        "confirm": asdict(confirmed) if confirmed else None,
    }
