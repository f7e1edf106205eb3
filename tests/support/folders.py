"""Sweep folders as a controller leaves them, made by hand: every file through the store's own records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpsc_core.attempt import append_line, write_json
from orchestrator.mirror.ledger import Entry, write_entry
from orchestrator.mirror.tracker import RunStatus
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import AttemptEnd, EndClass, Result, Stage, TrialRecord, TrialState

__all__ = ["MadeSweep"]

URI = "sqlite:///runs.db"


@dataclass
class MadeSweep:
    """A sweep that is written trial by trial."""

    storage: Path
    name: str = "digits"
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths: SweepPaths = StoragePaths(self.storage).sweep(self.name)
        self.paths.trials.mkdir(parents=True)
        teacher = {"key": "t", "arch": "resnet20", "sha256": "0", "accuracy": 0.97, "test_accuracy": 0.965}
        objective = {"metric": "val_accuracy", "direction": "maximize", "of": "last"}
        common = {"sweep": self.name, "teacher": teacher, "objective": objective, "tracking_uri": URI}
        write_json(self.paths.manifest, common | {"finished": "complete"} | self.manifest)

    @property
    def folder(self) -> SweepFolder:
        """The sweep as it is read."""
        return SweepFolder(self.paths)

    def trial(
        self,
        number: int | None,
        values: Sequence[float] = (),
        *,
        state: TrialState | None = TrialState.COMPLETE,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        epochs: int = 4,
        objective: float | None = None,
        test: float | None = None,
        cause: str | None = None,
        detail: str | None = None,
        ended: EndClass | None = None,
        started: bool = True,
        objectives: Mapping[str, float] | None = None,
        excess: Mapping[str, float] | None = None,
    ) -> str:
        """Write a trial with a val_accuracy per epoch; without a state it is unfinished. Returns its hash."""
        name = f"{number:012x}" if number is not None else f"c{len(list(self.paths.trials.iterdir())):011x}"
        stage = Stage.SEARCH if number is not None else Stage.CONFIRM
        params = dict(params or {"loss.ikd": float((number or 0) + 1)})
        record = TrialRecord(
            name=name,
            number=number,
            stage=stage,
            params=params,
            distributions={},
            system_attrs={},
            settings=_settings(params, seed, epochs, stage),
            created=float(seed),
            generation=1,
        )
        paths = self.paths.trial(name)
        paths.attempts.mkdir(parents=True)
        write_json(paths.record, record.to_dict())
        if started:
            self._attempt(name, values, test, ended, detail)
        if state is not None:
            last = values[-1] if values else None
            value = (last if objective is None else objective) if state is TrialState.COMPLETE else None
            metrics = {"epoch": len(values), "val_accuracy": last, "label_fidelity": 0.5}
            result = Result(
                state=state,
                objective=value,
                params=params,
                metrics=metrics | ({} if test is None else {"test_accuracy": test}),
                timing={"seconds": 1.0, "ended": 2.0},
                cause=cause,
                detail=detail,
                objectives=dict(objectives or {}),
                excess=dict(excess or {}),
                attempt=1,
                generation=1,
            )
            write_json(paths.result, result.to_dict())
        return name

    def mirrored(self, name: str, runs: Mapping[str, str]) -> None:
        """Note the trial's MLflow run per tracking URI."""
        for uri, run in runs.items():
            entry = Entry(run_id=run, status=RunStatus.FINISHED, epoch=1, images=[], seen="")
            write_entry(self.paths.trial(name).mirror, uri, entry)

    def note(self, **entries: Any) -> None:
        """Change entries of the manifest."""
        manifest = json.loads(self.paths.manifest.read_text())
        write_json(self.paths.manifest, manifest | entries)

    def _attempt(
        self, name: str, values: Sequence[float], test: float | None, ended: EndClass | None, why: str | None
    ) -> None:
        attempt = self.paths.trial(name).attempt(1)
        attempt.root.mkdir()
        for epoch, value in enumerate(values, start=1):
            line = {"epoch": epoch, "seconds": 1.0 * epoch, "val_accuracy": value, "label_fidelity": 0.5}
            append_line(attempt.metrics, line)
        attempt.student.write_bytes(b"weights")
        if ended is not None:
            write_json(attempt.end, AttemptEnd(ended=ended, cause=why).to_dict())


def _settings(params: Mapping[str, Any], seed: int, epochs: int, stage: Stage) -> dict[str, Any]:
    splits = ["val"] if stage is Stage.SEARCH else ["val", "test"]
    return {"train": {"epochs": epochs, "seed": seed, "searched": dict(params)}, "splits": splits}
