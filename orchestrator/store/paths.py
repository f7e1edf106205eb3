"""Where each thing in a storage folder lies; nobody else joins these names.

<storage>/
  teachers/<hash>/  mlflow.db  mlflow-artifacts/
  <sweep>/
    sweep.yaml  manifest.json  lease  stop  controller.log
    trials.parquet  metrics.parquet  report.html
    trials/<hash>/  trial.json  result.json  mirror.json  attempts/<n>/
    lease/  in a bucket: the tokens of who owns it
    duplicates/<number>.json
    export/<hash>-<format>/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpsc_core.attempt import AttemptPaths
from orchestrator.store.working_copy import address_of

__all__ = ["StoragePaths", "SweepPaths", "TrialPaths"]


@dataclass(frozen=True, slots=True)
class StoragePaths:
    """The folder that holds sweeps, teachers and the default MLflow store."""

    root: Path
    """Absolute path of the storage folder."""

    @property
    def address(self) -> str:
        """The storage as commands are told of it: a path, or the address that this is a working copy of."""
        return address_of(self.root)

    @property
    def teachers(self) -> Path:
        """Folder of kept teachers."""
        return self.root / "teachers"

    @property
    def mlflow_database(self) -> Path:
        """The default MLflow tracking store."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Where the default MLflow store keeps images and files."""
        return self.root / "mlflow-artifacts"

    def sweep(self, name: str) -> SweepPaths:
        """The folder of one sweep."""
        return SweepPaths(self.root / name)

    def teacher(self, key: str) -> Path:
        """The folder of one kept teacher, see cpsc_core.card."""
        return self.teachers / key


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """One sweep."""

    root: Path
    """The folder <storage>/<sweep>."""

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.root.name

    @property
    def address(self) -> str:
        """The sweep as commands are told of it: a path, or the address that this is a working copy of."""
        return address_of(self.root)

    @property
    def storage(self) -> StoragePaths:
        """The storage folder the sweep lies in."""
        return StoragePaths(self.root.parent)

    @property
    def experiment(self) -> Path:
        """The experiment file as given, with what it extends and overrides merged in."""
        return self.root / "sweep.yaml"

    @property
    def manifest(self) -> Path:
        """Git commit, versions, seed, teacher, data and start of the sweep."""
        return self.root / "manifest.json"

    @property
    def lease(self) -> Path:
        """Who owns the sweep."""
        return self.root / "lease"

    @property
    def stop(self) -> Path:
        """Its existence asks the controller to stop."""
        return self.root / "stop"

    @property
    def log(self) -> Path:
        """What the controller and Ray had to say."""
        return self.root / "controller.log"

    @property
    def trials_table(self) -> Path:
        """A view: a row per trial."""
        return self.root / "trials.parquet"

    @property
    def metrics_table(self) -> Path:
        """A view: a row per trial, epoch and metric."""
        return self.root / "metrics.parquet"

    @property
    def report(self) -> Path:
        """A view: the sweep as one page."""
        return self.root / "report.html"

    @property
    def mirror(self) -> Path:
        """MLflow's run of the sweep itself, per tracking URI."""
        return self.root / "mirror.json"

    @property
    def trials(self) -> Path:
        """Folder of trial folders."""
        return self.root / "trials"

    @property
    def duplicates(self) -> Path:
        """Suggestions that named a trial which already existed."""
        return self.root / "duplicates"

    def duplicate(self, number: int) -> Path:
        """The record of one such suggestion."""
        return self.duplicates / f"{number}.json"

    def export(self, name: str) -> Path:
        """The folder of one export."""
        return self.root / "export" / name

    def trial(self, name: str) -> TrialPaths:
        """The folder of one trial."""
        return TrialPaths(self.trials / name)


@dataclass(frozen=True, slots=True)
class TrialPaths:
    """One trial."""

    root: Path
    """The folder trials/<hash>."""

    @property
    def record(self) -> Path:
        """What the trial is."""
        return self.root / "trial.json"

    @property
    def result(self) -> Path:
        """How it ended; a trial without it is unfinished."""
        return self.root / "result.json"

    @property
    def mirror(self) -> Path:
        """Per tracking URI: its MLflow run and how much of it is there."""
        return self.root / "mirror.json"

    @property
    def attempts(self) -> Path:
        """Folder of attempt folders."""
        return self.root / "attempts"

    def attempt(self, number: int) -> AttemptPaths:
        """One attempt."""
        return AttemptPaths(self.attempts / str(number))

    def old_result(self, number: int) -> Path:
        """Where the result goes when a trial is reopened after its attempt of this number."""
        return self.attempts / str(number) / "result.json"

    def old_metrics(self, number: int) -> Path:
        """Where the metrics of an attempt go that ran to the end, when the trial is reopened."""
        return self.attempts / str(number) / "metrics.old.jsonl"

    def begun(self, number: int) -> Path:
        """In a bucket: written before an attempt is handed out, so that nobody else takes its number."""
        return self.attempts / str(number) / "begun.json"

    def was_reopened(self, number: int) -> bool:
        """Whether the trial was finished with this attempt, and then opened again."""
        return self.old_result(number).exists()

    def attempt_numbers(self) -> list[int]:
        """Numbers of the attempts that have a folder, ascending."""
        if not self.attempts.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.attempts.iterdir() if entry.name.isdigit())
