"""Writing a sweep: every record goes through here, checked against the lease, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc_core.attempt import make_folder, replacing, write_json
from orchestrator.errors import FencedError
from orchestrator.store.folder import read_json
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, Duplicate, Result, TrialRecord

__all__ = ["SweepWriter"]


@dataclass(frozen=True, slots=True)
class SweepWriter:
    """The one writer of a sweep's records, for as long as it holds the lease."""

    paths: SweepPaths
    """The sweep."""
    lease: Lease
    """The right to write; checked at every record."""

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Replace manifest.json."""
        self.lease.check()
        write_json(self.paths.manifest, content)

    def write_experiment(self, text: str) -> None:
        """Replace sweep.yaml."""
        self.lease.check()
        with replacing(self.paths.experiment) as draft:
            draft.write_text(text, encoding="utf-8")

    def write_trial(self, record: TrialRecord) -> None:
        """Commit what a trial is, before it starts; a trial that exists already is left alone."""
        self.lease.check()
        paths = self.paths.trial(record.name)
        make_folder(paths.attempts)
        _create(paths.record, record.to_dict())

    def write_result(self, name: str, result: Result) -> None:
        """Commit how a trial ended.

        Raises FencedError if the trial already has a result of this generation or a later one: two
        outcomes of one trial can only come from two controllers.
        """
        self.lease.check()
        path = self.paths.trial(name).result
        if not _create(path, result.to_dict()):
            there = read_json(path) or {}
            if there.get("generation", 0) >= result.generation:
                raise FencedError(
                    f"trial {name} already has a result ({there.get('state')}); nothing is written"
                )
            write_json(path, result.to_dict())

    def write_end(self, name: str, attempt: int, end: AttemptEnd) -> None:
        """Write how one attempt ended; the first word about an attempt stands."""
        self.lease.check()
        paths = self.paths.trial(name).attempt(attempt)
        make_folder(paths.root)
        _create(paths.end, end.to_dict())

    def write_duplicate(self, duplicate: Duplicate) -> None:
        """Commit a suggestion that named a trial which already exists."""
        self.lease.check()
        make_folder(self.paths.duplicates)
        _create(self.paths.duplicate(duplicate.number), duplicate.to_dict())

    def reopen(self, name: str) -> None:
        """Make a finished trial unfinished: its result moves into its newest attempt."""
        self.lease.check()
        trial = self.paths.trial(name)
        old_result = trial.old_result(max(trial.attempt_numbers(), default=1))
        old_result.parent.mkdir(parents=True, exist_ok=True)
        trial.result.replace(old_result)


def _create(path: Path, content: Mapping[str, Any]) -> bool:
    """Create a JSON file whole and durably; False, and nothing written, if it already exists."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
