"""Reading a sweep: the folders are the truth, and this is how everybody reads them."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cpsc_core.attempt import read_lines
from orchestrator.errors import UnreachableError, UsageError
from orchestrator.store.address import BucketAddress, Storage, is_remote, path_at
from orchestrator.store.links import refuse_links
from orchestrator.store.paths import SweepPaths, TrialPaths
from orchestrator.store.records import AttemptEnd, Duplicate, Result, Stage, TrialRecord, TrialState
from orchestrator.store.working_copy import open_copy, origin_of, refresh

__all__ = ["SweepFolder", "TrialFolder", "find_sweep", "named", "read_json"]

_Kind = TypeVar("_Kind", TrialRecord, Result, AttemptEnd, Duplicate)


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, or None if there is no such file; UnreachableError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # somebody's file may lie where trials do
        return None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no JSON object")
    return content


def _read_record(kind: type[_Kind], path: Path) -> _Kind | None:
    """The record in a file, or None if there is no such file; UnreachableError if it is damaged."""
    raw = read_json(path)
    try:
        return None if raw is None else kind.from_dict(raw)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> UnreachableError:
    return UnreachableError(f"{path} is damaged: {reason}; put it back from a copy, or move its folder away")


@dataclass(frozen=True)
class TrialFolder:
    """One trial as it stands on disk at the moment of reading; make a new one to look again."""

    paths: TrialPaths
    """Where its files lie."""
    record: TrialRecord
    """What it is."""
    result: Result | None
    """How it ended; None while unfinished."""

    @classmethod
    def read(cls, paths: TrialPaths) -> TrialFolder | None:
        """The trial in a folder, or None if its record was never written; UnreachableError if it is damaged.

        A record is of the folder it lies in: its name is going to be part of paths.
        """
        trial = _read_record(TrialRecord, paths.record)
        if trial is None:
            return None
        if trial.name != paths.root.name:
            raise _damaged(paths.record, f"it is the record of another trial, {trial.name!r}")
        return cls(paths, trial, _read_record(Result, paths.result))

    @property
    def name(self) -> str:
        """The trial's hash."""
        return self.record.name

    @cached_property
    def attempts(self) -> list[int]:
        """Numbers of its attempts, ascending."""
        return self.paths.attempt_numbers()

    @property
    def state(self) -> TrialState:
        """Pending before its first attempt, running until it has a result."""
        if self.result is not None:
            return self.result.state
        return TrialState.RUNNING if self.attempts else TrialState.PENDING

    @cached_property
    def _written(self) -> tuple[int | None, list[dict[str, Any]]]:
        for number in reversed(self.attempts):
            if lines := read_lines(self.paths.attempt(number).metrics):
                return number, lines
        return None, []

    @property
    def written(self) -> int | None:
        """Number of the newest attempt that wrote a metrics line; None if none did."""
        return self._written[0]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Metric lines of the trial, ascending by epoch: those of the newest attempt that wrote any."""
        return self._written[1]

    @cached_property
    def costs(self) -> dict[str, float]:
        """What its student costs, see cpsc_core.costs; empty unless it ran to its end."""
        found = (read_json(self.paths.attempt(number).costs) for number in reversed(self.attempts))
        return next((costs for costs in found if costs is not None), {})

    @property
    def epoch(self) -> int:
        """The last finished epoch, 0 before the first."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @cached_property
    def ends(self) -> dict[int, AttemptEnd]:
        """How its attempts ended, by number; an attempt nobody saw the end of is missing."""
        found = {number: _read_record(AttemptEnd, self.paths.attempt(number).end) for number in self.attempts}
        return {number: end for number, end in found.items() if end}

    def failures(self) -> list[AttemptEnd]:
        """How its attempts failed since the trial was last opened: a reopened one starts afresh."""
        first = self._reopened + 1
        return [end for number, end in self.ends.items() if number >= first and end.ended.is_failure]

    @property
    def reopened_at(self) -> int:
        """The epoch it had come to when it was last opened again; 0 if it never was."""
        earlier = [number for number in self.attempts if number <= self._reopened]
        return max((self._reached(number) for number in earlier), default=0)

    def _reached(self, number: int) -> int:
        """The last epoch of an attempt, also of one whose lines were put aside."""
        lines = read_lines(self.paths.old_metrics(number)) or read_lines(self.paths.attempt(number).metrics)
        return int(lines[-1]["epoch"]) if lines else 0

    @property
    def _reopened(self) -> int:
        """Number of the last attempt after which it was opened again; 0 if it never was."""
        return max((number for number in self.attempts if self.paths.was_reopened(number)), default=0)

    @property
    def gpu_seconds(self) -> float:
        """Seconds of work over all attempts, each times the GPUs it held."""
        return sum(self.attempt_seconds(number) * end.gpus for number, end in self.ends.items())

    def attempt_seconds(self, number: int) -> float:
        """Seconds of one attempt's own work, up to its last metrics line."""
        if (end := self.ends.get(number)) is not None:
            return end.seconds
        lines = read_lines(self.paths.attempt(number).metrics)
        return float(lines[-1]["seconds"]) if lines else 0.0

    @property
    def seconds(self) -> float:
        """Seconds of work over all attempts."""
        return sum(self.attempt_seconds(number) for number in self.attempts)

    def samples(self) -> dict[int, Path]:
        """Sample grids by epoch; of an epoch drawn twice the newest attempt's."""
        found: dict[int, Path] = {}
        for number in self.attempts:
            attempt = self.paths.attempt(number)
            found |= {epoch: attempt.sample(epoch) for epoch in attempt.sample_epochs()}
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class SweepFolder:
    """One sweep as it stands on disk."""

    paths: SweepPaths
    """Where its files lie."""

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.paths.name

    def refresh(self) -> None:
        """Look again at what the bucket has, where the folder is a working copy of one."""
        refresh(self.paths.root)

    @property
    def manifest(self) -> dict[str, Any]:
        """Provenance of the sweep; empty before it was written."""
        return read_json(self.paths.manifest) or {}

    @property
    def experiment(self) -> str:
        """The text of the sweep's experiment file; UnreachableError if there is none."""
        try:
            return self.paths.experiment.read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise _damaged(self.paths.experiment, "it is no experiment file") from error

    def trials(self) -> list[TrialFolder]:
        """Every trial: search trials by number, then confirm trials by time of creation."""
        if not self.paths.trials.is_dir():
            return []
        found = (TrialFolder.read(TrialPaths(entry)) for entry in self.paths.trials.iterdir())
        return sorted((trial for trial in found if trial), key=_order)

    def duplicates(self) -> list[Duplicate]:
        """Suggestions that named an existing trial, by number."""
        if not self.paths.duplicates.is_dir():
            return []
        found = (_read_record(Duplicate, path) for path in self.paths.duplicates.glob("*.json"))
        return sorted((each for each in found if each), key=lambda each: each.number)


def named(trials: Iterable[TrialFolder], text: str) -> list[TrialFolder]:
    """The trials that a text names: the one of that number or hash, or all whose hash begins with it."""
    trials = list(trials)
    exact = [trial for trial in trials if text == trial.name or text == _written_number(trial)]
    return exact or [trial for trial in trials if trial.name.startswith(text)]


def _written_number(trial: TrialFolder) -> str | None:
    return None if trial.record.number is None else str(trial.record.number)


def find_sweep(sweep: str, storage: Storage) -> SweepFolder:
    """The sweep of a name in a storage, at a path or at an address; in a bucket, as it stands there now.

    Raises UsageError, naming the sweeps that exist, if there is none, and if its folder has links in it.
    """
    if is_remote(sweep):
        address = BucketAddress.parse(sweep)
        return _find_in_bucket(address.name, address.parent)
    if isinstance(storage, BucketAddress):
        return _find_in_bucket(sweep, storage)
    for root in (storage / sweep, path_at(sweep)):
        if _is_file(root / "manifest.json"):
            root = root.resolve()
            refuse_links(root)
            origin = origin_of(root.parent)
            return SweepFolder(SweepPaths(root)) if origin is None else _find_in_bucket(root.name, origin)
    known = sorted(path.parent.name for path in storage.glob("*/manifest.json")) if storage.is_dir() else []
    raise UsageError(_no_sweep(sweep, storage, known))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _find_in_bucket(name: str, storage: BucketAddress) -> SweepFolder:
    copy = open_copy(storage)
    if name and "/" not in name and name not in (".", ".."):
        folder = SweepFolder(SweepPaths(copy.root / name))
        folder.refresh()
        if folder.paths.manifest.is_file():
            return folder
    known = [each for each in copy.bucket.names() if copy.bucket.has(f"{each}/manifest.json")]
    raise UsageError(_no_sweep(name, storage, known))


def _no_sweep(sweep: str, storage: Storage, known: list[str]) -> str:
    there = f"it holds {', '.join(known)}" if known else "it holds no sweep"
    return (
        f"no sweep {sweep!r} in {storage}: {there}; "
        "name one of them, give its path, or point --storage elsewhere"
    )


def _order(trial: TrialFolder) -> tuple[int, float, str]:
    record = trial.record
    first = record.number if record.stage is Stage.SEARCH and record.number is not None else 2**62
    return first, record.created, record.name
