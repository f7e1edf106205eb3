"""manifest.json: where a sweep came from, what it distils, and every run of its controller."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpsc_core.card import TeacherCard
from orchestrator.cluster.shape import Shape
from orchestrator.config import Experiment, SweepConfig
from orchestrator.errors import UsageError
from orchestrator.provenance import code_state, git_state, package_versions, text_digest

__all__ = [
    "begin_run",
    "drift",
    "extend_budget",
    "gpus_before",
    "note_shape",
    "note_teacher",
    "search_opened",
]

_TEACHER_KEYS = ("key", "arch", "sha256", "accuracy", "test_accuracy")


def begin_run(
    before: Mapping[str, Any],
    experiment: Experiment,
    *,
    name: str,
    generation: int,
    changes: Sequence[str] = (),
    start_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a sweep whose controller begins its first run, or another one after `before`.

    Commit, teacher and data stay those the sweep began with; versions are those of the newest run, and
    `runs` has those of all. `changes` are the fields that differ from the run before, `start_from` is
    what earlier sweeps know (`orchestrator.study.prior`).
    """
    config = experiment.config
    added = _added(before, config.budget.trials)
    versions = package_versions()
    run = {
        "generation": generation,
        "started": time.time(),
        "versions": versions,
        "code": code_state(),
        "config_sha256": text_digest(experiment.text),
        "changes": list(changes),
    }
    return {
        "sweep": name,
        "created": before.get("created", run["started"]),
        "git": before.get("git") or git_state(experiment.path.parent),
        "versions": versions,
        "config_sha256": text_digest(experiment.text),
        "teacher": before.get("teacher", {}),
        "data": before.get("data", {"name": config.data.name}) | {"root": _text(config.data.root)},
        "seed": config.sampler.seed,
        "start_from": dict(start_from or {}),
        "objective": _objectives(config),
        "epochs": config.train.epochs,
        "budget_trials": config.budget.trials + added,
        "added_trials": added,
        "tracking_uri": config.tracking.uri,
        "generation": generation,
        "runs": [*before.get("runs", []), run],
        "finished": None,
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _objectives(config: SweepConfig) -> dict[str, Any] | list[dict[str, Any]]:
    """The objective as the experiment file gives it: one, or a list of several."""
    given = [each.model_dump() for each in config.objectives]
    return given if isinstance(config.objective, tuple) else given[0]


def extend_budget(manifest: Mapping[str, Any], trials: int) -> dict[str, Any]:
    """The manifest with so many trials more to search, which its newest run was asked for."""
    *earlier, newest = manifest["runs"]
    return {
        **manifest,
        "budget_trials": manifest["budget_trials"] + trials,
        "added_trials": manifest["added_trials"] + trials,
        "runs": [*earlier, newest | {"added_trials": trials}],
    }


def search_opened(manifest: Mapping[str, Any]) -> int:
    """Generation of the last run that widened the search or was allowed more of it; 0 if none was."""
    runs = [
        run for run in manifest.get("runs", []) if run.get("added_trials") or any(map(_opens, run["changes"]))
    ]
    return runs[-1]["generation"] if runs else 0


def _opens(change: str) -> bool:
    return change.startswith(("budget.", "search."))


def note_shape(manifest: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """The manifest with the processes that a trial has in its newest run."""
    *earlier, newest = manifest["runs"]
    return {**manifest, "runs": [*earlier, newest | {"shape": asdict(shape)}]}


def drift(manifest: Mapping[str, Any]) -> list[str]:
    """What differs between the newest run and the one before that may change a number, line by line."""
    *earlier, newest = manifest["runs"]
    before = next((run for run in reversed(earlier) if "shape" in run), None)
    if before is None:
        return []
    was, now = _deciding(before), _deciding(newest)
    return [
        f"{key}: {was.get(key, 'none')} -> {now.get(key, 'none')}"
        for key in was | now
        if was.get(key) != now.get(key)
    ]


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
            "root": manifest["data"].get("root"),
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


def _added(before: Mapping[str, Any], trials: int) -> int:
    """Trials that earlier runs added; none any more once the budget itself was changed."""
    added = int(before.get("added_trials", 0))
    return added if before.get("budget_trials", trials + added) == trials + added else 0


def _deciding(run: Mapping[str, Any]) -> dict[str, Any]:
    """What numbers may depend on, of one run."""
    shape, code = run["shape"], run.get("code", {})
    commit = (code.get("commit") or "")[:12]
    versions: dict[str, Any] = run["versions"]
    return versions | {
        "commit": f"{commit} with changes" if commit and code.get("dirty") else commit,
        "ranks": shape["workers"],
        "threads": shape["cpus"],
        "device": "cuda" if shape["gpus"] else "cpu",
    }
