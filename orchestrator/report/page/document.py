"""What the report of a sweep says, as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.objective import objective_of
from orchestrator.report.best import find_best
from orchestrator.report.best_file import best_experiment
from orchestrator.report.leaderboard import leaderboard_document, tried
from orchestrator.report.status import status_document
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import Stage, TrialState

__all__ = ["report_document"]


def report_document(folder: SweepFolder) -> dict[str, Any]:
    """Everything the report says but its pictures; raises UsageError while the sweep has no trial."""
    trials, manifest = folder.trials(), folder.manifest
    if not trials:
        raise UsageError(
            f"sweep {folder.name} has no trial yet, so there is nothing to report; "
            f"see how it stands with `cpsc-orchestrate status {folder.paths.address}`"
        )
    status = status_document(folder)
    best = find_best(folder)
    return {
        "sweep": folder.name,
        # The controller that writes the report of an ended sweep still owns it.
        "state": manifest.get("finished") or status["state"],
        "counts": status["counts"],
        "searched": _searched(trials, manifest),
        "leaderboard": leaderboard_document(folder),
        "best": None if best is None else best.name,
        "curves": _curves(trials, objective_of(manifest).metric),
        "importances": _importances(folder),
        "per_class": None if best is None else per_class(best),
        "failures": _failures(trials),
        "cost": _cost(trials),
        "reproduce": _reproduce(folder, manifest),
    }


def per_class(trial: TrialFolder) -> dict[str, Any] | None:
    """Accuracy by class of a complete trial's student, and of its teacher if that is known; else None."""
    if trial.result is None:
        return None
    try:
        path = trial.paths.attempt(trial.result.attempt).per_class
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    teacher = content.get("teacher", {}).get("val", {}).get("accuracy")
    return {
        "split": "val",
        "classes": content["classes"],
        "student": content["val"]["accuracy"],
        "teacher": teacher,
    }


def _searched(trials: Sequence[TrialFolder], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What was searched: networks, data, and every parameter with what was tried of it."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        if trial.record.stage is Stage.SEARCH:
            for path, value in trial.record.params.items():
                values.setdefault(path, []).append(value)
    return {
        "data": manifest.get("data") or {},
        "teacher": manifest.get("teacher") or {},
        "student": tried(trials, "student_arch"),
        "method": tried(trials, "train", "method"),
        "epochs": manifest.get("epochs"),
        "budget_trials": manifest.get("budget_trials"),
        "parameters": [
            {"path": path, "tried": len(set(map(str, tried))), **_extent(tried)}
            for path, tried in sorted(values.items())
        ],
    }


def _extent(values: Sequence[Any]) -> dict[str, Any]:
    """Smallest and largest of numbers; of anything else the different values."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"low": min(values), "high": max(values), "values": None}
    return {"low": None, "high": None, "values": sorted(set(map(str, values)))}


def _curves(trials: Sequence[TrialFolder], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "trial": trial.name,
            "number": trial.record.number,
            "state": trial.state.value,
            "points": [[line["epoch"], line[metric]] for line in trial.history if metric in line],
        }
        for trial in trials
        if trial.record.stage is Stage.SEARCH
    ]


def _importances(folder: SweepFolder) -> dict[str, float]:
    # Optuna takes most of a second to import, and only a report needs it.
    from orchestrator.study.view import importances, study_of

    return importances(study_of(folder))


def _failures(trials: Sequence[TrialFolder]) -> list[dict[str, Any]]:
    """Failed trials by cause, the most frequent first, and attempts that failed but were made good."""
    groups: dict[str, list[TrialFolder]] = {}
    for trial in trials:
        if trial.result is not None and trial.result.state is TrialState.FAILED:
            groups.setdefault(trial.result.cause or "unknown", []).append(trial)
    retried: dict[str, int] = {}
    for trial in trials:
        for end in trial.ends.values():
            if end.ended.is_failure:
                retried[end.ended.value] = retried.get(end.ended.value, 0) + 1
    return [
        {
            "cause": cause,
            "trials": [trial.name for trial in groups.get(cause, ())],
            "attempts": retried.get(cause, 0),
            "detail": next((t.result.detail for t in groups.get(cause, ()) if t.result), None),
        }
        for cause in sorted({*groups, *retried}, key=lambda cause: (-len(groups.get(cause, ())), cause))
    ]


def _cost(trials: Sequence[TrialFolder]) -> dict[str, float]:
    """Hours of work by what came of them, and what pruning saved.

    A pruned trial would have gone on at its own mean pace; those hours are the ones saved.
    """
    hours = {"search": 0.0, "confirm": 0.0, "saved_by_pruning": 0.0}
    for trial in trials:
        seconds = _seconds(trial)
        hours[trial.record.stage.value] += seconds / 3600
        epochs = trial.record.settings.get("train", {}).get("epochs", trial.epoch)
        if trial.state is TrialState.PRUNED and trial.epoch:
            hours["saved_by_pruning"] += seconds / trial.epoch * (epochs - trial.epoch) / 3600
    return hours


def _seconds(trial: TrialFolder) -> float:
    noted = trial.result.timing.get("seconds") if trial.result else None
    return trial.seconds if noted is None else float(noted)


def _reproduce(folder: SweepFolder, manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "git": manifest.get("git") or {},
        "versions": manifest.get("versions") or {},
        "seed": manifest.get("seed"),
        "config_sha256": manifest.get("config_sha256"),
        "experiment": folder.experiment,
        "best_experiment": best_experiment(folder),
    }
