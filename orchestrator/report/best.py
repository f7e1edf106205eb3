"""The best configuration of a sweep, and where its student lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.mirror.ledger import read_entry
from orchestrator.mirror.uri import default_uri, public_uri
from orchestrator.report.leaderboard import objective_of, order
from orchestrator.store.folder import SweepFolder, TrialFolder

__all__ = ["best_document", "best_student", "find_best", "tracking_uri"]


def find_best(folder: SweepFolder) -> TrialFolder | None:
    """The search trial at the top of the leaderboard; None while no search trial is complete."""
    ranked = order(folder.trials(), objective_of(folder.manifest))
    return ranked[0] if ranked else None


def best_student(trial: TrialFolder) -> Path | None:
    """Weights of a complete trial's student; None if they are not there."""
    if trial.result is None:
        return None
    weights = trial.paths.attempt(trial.result.attempt).student
    return weights if weights.is_file() else None


def best_document(folder: SweepFolder) -> dict[str, Any]:
    """The best trial as plain JSON values; raises UsageError while no search trial is complete."""
    trial = find_best(folder)
    if trial is None or trial.result is None:
        raise UsageError(
            f"no trial of sweep {folder.name} is complete yet; "
            f"see how it stands with `cpsc-orchestrate status {folder.paths.root}`"
        )
    return {
        "trial": trial.name,
        "number": trial.record.number,
        "params": trial.record.params,
        "objective": trial.result.objective,
        "metrics": trial.result.metrics,
        "teacher_accuracy": (folder.manifest.get("teacher") or {}).get("accuracy"),
        "folder": str(trial.paths.root),
        "mlflow_run_id": _run_id(folder, trial),
    }


def tracking_uri(folder: SweepFolder) -> str:
    """Where MLflow shows the sweep, without the query, in which a driver may want an access key."""
    return public_uri(folder.manifest.get("tracking_uri") or default_uri(folder.paths.storage))


def _run_id(folder: SweepFolder, trial: TrialFolder) -> str | None:
    """The trial's run at the sweep's own tracking URI; None while it has not been mirrored there."""
    entry = read_entry(trial.paths.mirror, tracking_uri(folder))
    return entry.run_id if entry else None
