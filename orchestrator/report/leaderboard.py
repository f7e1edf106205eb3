"""Which configurations are best: search trials by their objective, confirmed ones by fresh seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.objective import Objective, objectives_of
from orchestrator.outcome import objective_value
from orchestrator.ranking import Goal, front, rank, values_of
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import Stage, TrialRecord, TrialState

__all__ = [
    "Confirmation",
    "broken_by",
    "confirmations",
    "infeasible",
    "leaderboard_document",
    "order",
    "tried",
]


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


def order(trials: Sequence[TrialFolder], objectives: Sequence[Goal]) -> list[TrialFolder]:
    """Ranked search trials, the confirmed ones first, by their mean validation accuracy.

    Fresh seeds count only once no confirm trial is unfinished, and only for configurations with the full
    number of seeds; before that, and for the others, the search's own ranking holds. With several objectives
    it always does, since seeds are compared by accuracy alone.
    """
    ranked = rank(trials, objectives)
    confirmed = confirmations(trials)
    unfinished = any(each.record.stage is Stage.CONFIRM and each.result is None for each in trials)
    if unfinished or not confirmed or len(objectives) > 1:
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


def leaderboard_document(folder: SweepFolder, limit: int | None = None) -> dict[str, Any]:
    """The leaderboard as plain JSON values, best configuration first, of both kinds `limit` rows at most.

    Trials that break a constraint are apart from the others and have no rank.
    """
    manifest, trials = folder.manifest, folder.trials()
    objectives, confirmed = objectives_of(manifest), confirmations(trials)
    ranked = order(trials, objectives)
    best = {each.name for each in front(trials, objectives)} if len(objectives) > 1 else set()
    rows = [_row(each, objectives, confirmed.get(each.name), each.name in best) for each in ranked[:limit]]
    broken = [_row(each, objectives, confirmed.get(each.name), False) for each in infeasible(trials)[:limit]]
    return {
        "sweep": folder.name,
        "objective": asdict(objectives[0]),
        "objectives": [asdict(each) for each in objectives],
        "teacher": {key: (manifest.get("teacher") or {}).get(key) for key in _TEACHER_KEYS},
        "rows": [{"rank": position, **row} for position, row in enumerate(rows, start=1)],
        "infeasible": [{"rank": None, **row} for row in broken],
    }


def tried(trials: Iterable[TrialFolder], *path: str) -> str | None:
    """What some trials have at a place of their settings, such as student_arch; None if they have nothing."""
    values = {_at(trial.record.settings, path) for trial in trials} - {None}
    return ", ".join(sorted(map(str, values))) or None


def _at(settings: Any, path: Sequence[str]) -> Any:
    for key in path:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def infeasible(trials: Iterable[TrialFolder]) -> list[TrialFolder]:
    """Complete search trials that break a constraint, by number."""
    return [
        trial
        for trial in trials
        if trial.record.stage is Stage.SEARCH and trial.state is TrialState.COMPLETE and broken_by(trial)
    ]


def broken_by(trial: TrialFolder) -> list[str]:
    """The constraints that a trial breaks, as the experiment file has them."""
    excess = trial.result.excess if trial.result is not None else {}
    return [text for text, beyond in excess.items() if beyond > 0.0]


_TEACHER_KEYS = ("arch", "accuracy", "test_accuracy")


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


def _row(
    trial: TrialFolder, objectives: Sequence[Objective], confirmed: Confirmation | None, on_front: bool
) -> dict[str, Any]:
    lines, first, result = trial.history, objectives[0], trial.result
    values = values_of(result, objectives)
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "objective": values[0] if values else None,
        "objectives": {goal.metric: value for goal, value in zip(objectives, values or (), strict=False)},
        "front": on_front,
        "broken": broken_by(trial),
        "last": objective_value(lines, first.metric, first.direction, "last"),
        "best": objective_value(lines, first.metric, first.direction, "best"),
        "mean5": objective_value(lines, first.metric, first.direction, "mean5"),
        "label_fidelity": lines[-1].get("label_fidelity") if lines else None,
        "params": trial.record.params,
        "confirm": asdict(confirmed) if confirmed else None,
    }
