"""What a trial's run carries besides numbers and images: settings, log, accuracy by class, its models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from orchestrator.mirror.tracker import Attachment
from orchestrator.store.folder import TrialFolder
from orchestrator.store.working_copy import place_of, size_of

__all__ = ["trial_files"]

_BYTES_OF_A_LOG = 2**20


def trial_files(trial: TrialFolder) -> list[Attachment]:
    """The attachments of a finished trial; what its folder lacks is left out.

    The weights themselves stay where they are: models.json says where.
    """
    return list(_files(trial))


def _files(trial: TrialFolder) -> Iterator[Attachment]:
    yield Attachment("config.json", _json(trial.record.settings))
    if trial.result is None:
        return
    attempt = trial.paths.attempt(trial.result.attempt)
    if (log := _end_of(attempt.log)) is not None:
        yield Attachment("log.txt", log)
    if (shares := _end_of(attempt.per_class)) is not None:
        yield Attachment("per_class.json", shares)
    models = {"student": attempt.student, "generator": attempt.generator}
    there = {
        name: {"path": str(place_of(path)), "bytes": size}
        for name, path in models.items()
        if (size := size_of(path)) is not None
    }
    if there:
        yield Attachment("models.json", _json(there))


def _end_of(path: Path) -> bytes | None:
    """The last mebibyte of a file; None if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _BYTES_OF_A_LOG, 0))
            return file.read()
    except FileNotFoundError:
        return None


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
