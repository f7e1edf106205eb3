"""From the folders to the runs that the server should show. Pure: the same folders give the same runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.mirror.attached import trial_files
from orchestrator.mirror.tracker import Attachment, Image, Inputs, Point, RunStatus
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import Stage, TrialRecord, TrialState

__all__ = [
    "PASSING_TAGS",
    "SWEEP_TAG",
    "TRIAL_TAG",
    "WantedRun",
    "digest",
    "params_key",
    "provenance",
    "sweep_inputs",
    "sweep_run",
    "trial_run",
    "versions",
]

SWEEP_TAG = "cpsc.created"
"""Tag that all runs of one sweep share, and no run of another sweep that has the same name."""
TRIAL_TAG = "cpsc.trial"
"""Tag with the trial's hash; the sweep's own run has none."""
PASSING_TAGS = frozenset({"cpsc.cause", "cpsc.detail", "cpsc.log", "cpsc.node", "cpsc.stack"})
"""Tags that a run may lose again, when a failed trial is reopened."""

_FROM_MANIFEST = {
    "mlflow.source.git.commit": ("git", "commit"),
    "cpsc.git_dirty": ("git", "dirty"),
    "cpsc.config_sha256": ("config_sha256",),
    "cpsc.seed": ("seed",),
    "cpsc.data": ("data", "name"),
    "cpsc.data_fingerprint": ("data", "fingerprint"),
    "cpsc.teacher": ("teacher", "arch"),
    "cpsc.teacher_sha256": ("teacher", "sha256"),
    "cpsc.teacher_accuracy": ("teacher", "accuracy"),
    "cpsc.teacher_test_accuracy": ("teacher", "test_accuracy"),
    "cpsc.objective": ("objective", "metric"),
}
_STATUS = {
    TrialState.PENDING: RunStatus.SCHEDULED,
    TrialState.RUNNING: RunStatus.RUNNING,
    TrialState.COMPLETE: RunStatus.FINISHED,
    TrialState.PRUNED: RunStatus.KILLED,
    TrialState.FAILED: RunStatus.FAILED,
}
_CHARACTERS_OF_A_TAG = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRun:
    """One run as the server should show it."""

    name: str
    """What people call it."""
    started: int
    """Unix time in milliseconds."""
    ended: int | None
    """Unix time in milliseconds; None unless the status is final."""
    status: RunStatus
    """How it is shown."""
    tags: Mapping[str, str]
    """What it is searched by."""
    params: Mapping[str, str]
    """Parameters by dotted path."""
    points: Sequence[Point] = ()
    """Metrics of every epoch, ascending."""
    summary: Sequence[Point] = ()
    """What the result adds to the metrics of the last epoch."""
    images: Sequence[Image] = ()
    """Sample grids, ascending."""
    files: Sequence[Attachment] = ()
    """What the run carries besides."""


def provenance(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say where a sweep came from; what the manifest does not know is left out."""
    tags = {SWEEP_TAG: _text(manifest.get("created", ""))}
    for tag, path in _FROM_MANIFEST.items():
        if (value := _at(manifest, path)) is not None:
            tags[tag] = _text(value)
    return tags


def versions(manifest: Mapping[str, Any], generation: int | None = None) -> dict[str, str]:
    """Tags with the packages of the controller's newest run, or of the one of a generation."""
    runs = manifest.get("runs") or []
    own = (run.get("versions") for run in runs if run.get("generation") == generation)
    found = next(own, None) or manifest.get("versions") or {}
    return {f"cpsc.version.{package}": _text(version) for package, version in found.items()}


def sweep_run(
    name: str,
    manifest: Mapping[str, Any],
    status: RunStatus,
    ended: int | None,
    note: str | None = None,
    files: Sequence[Attachment] = (),
) -> WantedRun:
    """The sweep's own run, which the trials' runs hang below.

    `note` is Markdown that its page opens with.
    """
    return WantedRun(
        name=name,
        started=_milliseconds(manifest.get("created")),
        ended=ended,
        status=status,
        tags=provenance(manifest)
        | versions(manifest)
        | {"cpsc.sweep": name}
        | ({"mlflow.note.content": note} if note else {}),
        params={},
        files=files,
    )


def sweep_inputs(folder: SweepFolder) -> Inputs | None:
    """The data set and the teacher of a sweep; None before its teacher is known."""
    manifest = folder.manifest
    teacher, data = manifest.get("teacher") or {}, manifest.get("data") or {}
    if not teacher.get("sha256") or not data.get("fingerprint"):
        return None
    facts = {name: value for name, value in teacher.items() if name not in ("arch", "sha256")}
    return Inputs(
        data=_text(data["name"]),
        data_digest=_text(data["fingerprint"]),
        data_source=_text(data.get("root") or f"package:{data['name']}"),
        teacher=_text(teacher["arch"]),
        teacher_digest=_text(teacher["sha256"]),
        teacher_facts={name: _text(value) for name, value in facts.items() if value is not None},
    )


def trial_run(
    trial: TrialFolder, *, parent: str, origin: Mapping[str, str], owned: bool, confirms: int | None
) -> WantedRun:
    """The run of one trial.

    `parent` is the id of the sweep's run, `origin` its provenance, `owned` whether a controller lives that
    can run the trial, `confirms` the number of the search trial that a confirm trial repeats.
    """
    state = _state(trial, owned)
    clock = _clock(trial)
    return WantedRun(
        name=_name(trial.record, confirms),
        started=_milliseconds(trial.record.created),
        ended=_milliseconds(trial.result.timing.get("ended")) if trial.result else None,
        status=_STATUS[state],
        tags=dict(origin) | _tags(trial, state, parent, confirms),
        params=_params(trial.record),
        points=[point for line in trial.history for point in _points(line, clock[line["epoch"]])],
        summary=_summary(trial, clock),
        files=trial_files(trial) if trial.result else (),
        images=[
            Image(path, clock[epoch], epoch) for epoch, path in trial.samples().items() if epoch in clock
        ],
    )


def params_key(record: TrialRecord) -> str:
    """Text that is equal for two trials of the same searched parameters."""
    return json.dumps(record.params, sort_keys=True)


def digest(*meaning: Any) -> str:
    """A short text that is equal only for equal JSON values."""
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def _state(trial: TrialFolder, owned: bool) -> TrialState:
    """A trial whose newest attempt has ended, or that nobody listens to, waits for its next attempt."""
    if trial.state is TrialState.RUNNING and (not owned or trial.attempts[-1] in trial.ends):
        return TrialState.PENDING
    return trial.state


def _name(record: TrialRecord, confirms: int | None) -> str:
    if record.stage is Stage.SEARCH:
        return f"trial-{record.number:03d}"
    which = record.name[:6] if confirms is None else f"{confirms:03d}"
    return f"confirm-{which}-seed-{_seed(record)}"


def _seed(record: TrialRecord) -> int:
    return int(record.settings["train"]["seed"])


def _tags(trial: TrialFolder, state: TrialState, parent: str, confirms: int | None) -> dict[str, str]:
    record, result = trial.record, trial.result
    tags = {
        "mlflow.parentRunId": parent,
        TRIAL_TAG: record.name,
        "cpsc.number": record.number,
        "cpsc.confirms": confirms,
        "cpsc.stage": record.stage,
        "cpsc.seed": _seed(record),
        "cpsc.state": state,
        "cpsc.cause": result.cause if result else None,
        "cpsc.detail": result.detail if result else None,
        "cpsc.node": result.node if result else None,
        "cpsc.stack": _end(result.stack) if result else None,
        "cpsc.log": _end(result.lines) if result else None,
        "cpsc.attempts": len(trial.attempts),
        # Without this tag MLflow does not look for images.
        "mlflow.loggedImages": "True" if trial.samples() else None,
    }
    return {tag: _text(value) for tag, value in tags.items() if value is not None}


def _end(lines: Sequence[str]) -> str | None:
    """As many of the last lines as a tag may have; None if there are none."""
    return "\n".join(lines)[-_CHARACTERS_OF_A_TAG:] or None


def _params(record: TrialRecord) -> dict[str, str]:
    settings = record.settings
    params = dict(_flat(settings["train"])) | record.params
    params |= {
        "data.name": settings["data"]["name"],
        "teacher.arch": settings["teacher"]["arch"],
        "student.arch": settings["student_arch"],
    }
    return {path: _text(value) for path, value in params.items()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _clock(trial: TrialFolder) -> dict[int, int]:
    """Unix milliseconds of every epoch: the trial's creation, and the seconds of work since.

    Depends on nothing but the lines up to the epoch, so that a point sent again is the same point. A resumed
    attempt counts its seconds from 0; the count goes on from what the attempt before it had reached.
    """
    clock: dict[int, int] = {}
    before = last = 0.0
    for line in trial.history:
        seconds = float(line.get("seconds", 0.0))
        if seconds < last:
            before += last
        last = seconds
        clock[line["epoch"]] = _milliseconds(trial.record.created + before + seconds)
    return clock


def _points(line: Mapping[str, Any], timestamp: int) -> Iterator[Point]:
    """Every number of a line, `epoch` included: the server's last one says how far it has got."""
    for key, value in line.items():
        if _is_number(value):
            yield Point(key, _drawable(value), timestamp, line["epoch"])


def _summary(trial: TrialFolder, clock: Mapping[int, int]) -> list[Point]:
    if trial.result is None:
        return []
    metrics = trial.result.measured | {"objective": trial.result.objective}
    step = int(metrics.get("epoch", trial.epoch))
    timestamp = clock.get(step, _milliseconds(trial.record.created))
    last_line = trial.history[-1].keys() if trial.history else set()
    return [
        Point(key, _drawable(value), timestamp, step)
        for key, value in sorted(metrics.items())
        if key not in last_line and key != "epoch" and _is_number(value)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawable(value: float) -> float:
    """The value, or NaN for an infinite one: MLflow would draw that as 1.8e308 and flatten the chart."""
    return float(value) if math.isfinite(value) else math.nan


def _text(value: Any) -> str:
    return (str(value).lower() if isinstance(value, bool) else str(value))[:_CHARACTERS_OF_A_TAG]


def _at(content: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = content
    for key in path:
        if isinstance(value, list):  # several objectives
            return ", ".join(str(each[key]) for each in value)
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _milliseconds(moment: Any) -> int:
    """Unix time in milliseconds of seconds, or of a date in ISO format; 0 for anything else."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment).timestamp()
    return round(moment * 1000) if _is_number(moment) else 0
