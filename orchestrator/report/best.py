"""The best configuration of a sweep, and where its student lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.mirror.ledger import read_entry
from orchestrator.mirror.uri import default_uri, public_uri
from orchestrator.objective import objectives_of
from orchestrator.ranking import front
from orchestrator.report.leaderboard import infeasible, order
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.working_copy import place_of, size_of

__all__ = ["best_document", "best_student", "find_best", "tracking_uri"]


def find_best(folder: SweepFolder) -> TrialFolder | None:
    """The search trial at the top of the leaderboard; None while none is complete and keeps constraints."""
    ranked = order(folder.trials(), objectives_of(folder.manifest))
    return ranked[0] if ranked else None


def best_student(trial: TrialFolder) -> Path | None:
    """Weights of a complete trial's student, which may still have to be fetched; None if they are gone."""
    if trial.result is None:
        return None
    weights = trial.paths.attempt(trial.result.attempt).student
    return weights if size_of(weights) is not None else None


def best_document(folder: SweepFolder) -> dict[str, Any]:
    """The best trial as plain JSON values; raises UsageError while there is none.

    With several objectives it is the best in the first of them, and `front` has every trial that no other
    one beats: better in one objective and worse in none.
    """
    trial = find_best(folder)
    if trial is None:
        raise UsageError(
            f"{_why_none(folder)}; see how it stands with `cpsc-orchestrate status {folder.paths.address}`"
        )
    objectives = objectives_of(folder.manifest)
    if len(objectives) == 1:
        return _describe(folder, trial)
    best = front(folder.trials(), objectives)
    return _describe_all(folder, trial) | {"front": [_describe_all(folder, each) for each in best]}


def _describe_all(folder: SweepFolder, trial: TrialFolder) -> dict[str, Any]:
    return _describe(folder, trial) | {"objectives": trial.result.objectives if trial.result else {}}


def _describe(folder: SweepFolder, trial: TrialFolder) -> dict[str, Any]:
    result = trial.result
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "params": trial.record.params,
        "objective": result.objective if result else None,
        "metrics": result.measured if result else {},
        "teacher_accuracy": (folder.manifest.get("teacher") or {}).get("accuracy"),
        "folder": str(place_of(trial.paths.root)),
        "mlflow_run_id": _run_id(folder, trial),
    }


def _why_none(folder: SweepFolder) -> str:
    if broken := infeasible(folder.trials()):
        count = len(broken)
        return f"none of the {count} complete trial(s) of sweep {folder.name} keeps every constraint"
    return f"no trial of sweep {folder.name} is complete yet"


def tracking_uri(folder: SweepFolder) -> str:
    """Where MLflow shows the sweep, without the query, in which a driver may want an access key."""
    return public_uri(folder.manifest.get("tracking_uri") or default_uri(folder.paths.storage))


def _run_id(folder: SweepFolder, trial: TrialFolder) -> str | None:
    """The trial's run at the sweep's own tracking URI; None while it has not been mirrored there."""
    entry = read_entry(trial.paths.mirror, tracking_uri(folder))
    return entry.run_id if entry else None
