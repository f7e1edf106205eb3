"""Writing a sweep: every record goes through here, checked against the lease, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cpsc_core.attempt import make_durable, make_folder, read_lines, replacing, write_json
from orchestrator.errors import FencedError
from orchestrator.store.folder import read_json
from orchestrator.store.ownership import Ownership
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, Duplicate, Result, TrialRecord
from orchestrator.store.working_copy import copy_of, discard, publish

__all__ = ["SweepWriter"]

_Written = TypeVar("_Written")


def _never(_error: OSError) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class SweepWriter:
    """The one writer of a sweep's records, for as long as it holds the lease.

    In a working copy a record is written here first, and counts once the bucket has it, before this returns:
    what a process that dies in between leaves here is dropped when the copy is made equal to the bucket.
    """

    paths: SweepPaths
    """The sweep."""
    lease: Ownership
    """The right to write; checked at every record."""
    tries_again: Callable[[OSError], bool] = _never
    """Asked after each failure whether to write again; a record that is not written is an error otherwise."""

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Replace manifest.json."""
        self.lease.check()
        self._insist(lambda: write_json(self.paths.manifest, content))
        publish(self.paths.manifest)

    def write_experiment(self, text: str) -> None:
        """Replace sweep.yaml."""
        self.lease.check()
        self._insist(lambda: _replace(self.paths.experiment, text))
        publish(self.paths.experiment)

    def write_trial(self, record: TrialRecord) -> None:
        """Commit what a trial is, before it starts; a trial that exists already is left alone."""
        self.lease.check()
        paths = self.paths.trial(record.name)
        self._insist(lambda: make_folder(paths.attempts))
        self._create(paths.record, record.to_dict())
        publish(paths.record)

    def write_result(self, name: str, result: Result) -> None:
        """Commit how a trial ended.

        Raises FencedError if the trial already has a result of this generation or a later one: two
        outcomes of one trial can only come from two controllers.
        """
        self.lease.check()
        path = self.paths.trial(name).result
        if not self._create(path, result.to_dict()):
            there = read_json(path) or {}
            if there.get("generation", 0) >= result.generation:
                raise FencedError(
                    f"trial {name} already has a result ({there.get('state')}); nothing is written"
                )
            self._insist(lambda: write_json(path, result.to_dict()))
        publish(path)

    def begin_attempt(self, name: str, attempt: int) -> None:
        """Take an attempt's number, where no folder can be made that nobody else makes: in a bucket."""
        path = self.paths.trial(name).begun(attempt)
        if copy_of(path) is not None:
            self.lease.check()
            make_folder(path.parent)
            write_json(path, {"generation": self.lease.generation})
            publish(path)

    def write_end(self, name: str, attempt: int, end: AttemptEnd) -> None:
        """Write how one attempt ended; the first word about an attempt stands."""
        self.lease.check()
        paths = self.paths.trial(name).attempt(attempt)
        self._insist(lambda: make_folder(paths.root))
        self._create(paths.end, end.to_dict())
        publish(paths.end)

    def write_duplicate(self, duplicate: Duplicate) -> None:
        """Commit a suggestion that named a trial which already exists."""
        self.lease.check()
        self._insist(lambda: make_folder(self.paths.duplicates))
        path = self.paths.duplicate(duplicate.number)
        self._create(path, duplicate.to_dict())
        publish(path)

    def reopen(self, name: str) -> None:
        """Make a finished trial unfinished: its result moves into its newest attempt.

        Of a trial that had run to its end the metrics are put aside too: else nothing would be left to run.
        """
        self.lease.check()
        trial = self.paths.trial(name)
        numbers = trial.attempt_numbers()
        _put_aside(trial.result, trial.old_result(max(numbers, default=1)))
        for number in numbers:
            metrics = trial.attempt(number).metrics
            if any(line.get("final") for line in read_lines(metrics)):
                _put_aside(metrics, trial.old_metrics(number))

    def _create(self, path: Path, content: Mapping[str, Any]) -> bool:
        created = self._insist(lambda: _create(path, content))
        if created:
            self._insist(lambda: make_durable(path.parent))
        return created

    def _insist(self, write: Callable[[], _Written]) -> _Written:
        """Write something that may be written twice, again and again as long as that makes sense."""
        while True:
            try:
                return write()
            except OSError as error:
                if not self.tries_again(error):
                    raise
                self.lease.check()  # somebody may have taken over meanwhile


def _create(path: Path, content: Mapping[str, Any]) -> bool:
    """Create a JSON file, whole or not at all; False, and nothing written, if it already exists."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _put_aside(path: Path, place: Path) -> None:
    """Move a file; whoever dies before the end leaves it where it was, perhaps in both places."""
    place.parent.mkdir(parents=True, exist_ok=True)
    path.replace(place)
    publish(place)
    discard(path)


def _replace(path: Path, text: str) -> None:
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
