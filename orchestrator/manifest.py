"""manifest.json: where a sweep came from, what it distils, and every run of its controller."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cpsc_core.card import TeacherCard
from orchestrator.config import Experiment
from orchestrator.errors import UsageError
from orchestrator.provenance import git_state, package_versions, text_digest

__all__ = ["begin_run", "note_teacher"]

_TEACHER_KEYS = ("key", "arch", "sha256", "accuracy", "test_accuracy")


def begin_run(
    before: Mapping[str, Any], experiment: Experiment, *, name: str, generation: int, add_trials: int
) -> dict[str, Any]:
    """The manifest of a sweep whose controller begins its first run, or another one after `before`.

    Commit, teacher and data stay those the sweep began with; versions are those of the newest run, and
    `runs` has those of all.
    """
    config = experiment.config
    added = before.get("added_trials", 0) + add_trials
    versions = package_versions()
    run = {"generation": generation, "started": time.time(), "versions": versions}
    return {
        "sweep": name,
        "created": before.get("created", run["started"]),
        "git": before.get("git") or git_state(experiment.path.parent),
        "versions": versions,
        "config_sha256": text_digest(experiment.text),
        "teacher": before.get("teacher", {}),
        "data": before.get("data", {"name": config.data.name}),
        "seed": config.sampler.seed,
        "objective": config.objective.model_dump(),
        "epochs": config.train.epochs,
        "budget_trials": config.budget.trials + added,
        "added_trials": added,
        "tracking_uri": config.tracking.uri,
        "generation": generation,
        "runs": [*before.get("runs", []), run],
        "finished": None,
    }


def note_teacher(manifest: Mapping[str, Any], card: TeacherCard) -> dict[str, Any]:
    """The manifest with its teacher and data; UsageError if the sweep began with others."""
    sweep = manifest["sweep"]
    _refuse_change(sweep, "teacher", manifest["teacher"].get("sha256"), card.sha256)
    _refuse_change(sweep, "data set", manifest["data"].get("fingerprint"), card.data_fingerprint)
    teacher = {key: getattr(card, key) for key in _TEACHER_KEYS}
    return {
        **manifest,
        "teacher": teacher,
        "data": {
            "name": card.data,
            "fingerprint": card.data_fingerprint,
            "splits": card.splits,
            "normalization": {"mean": list(card.mean), "std": list(card.std)},
        },
    }


def _refuse_change(sweep: str, what: str, before: str | None, now: str) -> None:
    if before not in (None, now):
        raise UsageError(
            f"the {what} of sweep {sweep} has changed (digest {before[:12]} -> {now[:12]}); "
            "restore it, or give the experiment another name to start afresh"
        )


def gpus_before(manifest: Mapping[str, Any], generation: int) -> float:
    """GPUs that a trial held in the last run before a generation; 0 before any trial ran."""
    runs = [run for run in manifest.get("runs", []) if "shape" in run and run["generation"] < generation]
    return float(runs[-1]["shape"]["workers"] * runs[-1]["shape"]["gpus"]) if runs else 0.0
