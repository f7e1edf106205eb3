"""What a sweep's folders hold that nobody needs any more.

While a trial is unfinished it keeps its two newest checkpoints that hold, whatever attempt they are of. A
complete or pruned one keeps its newest, a failed one all, until they are cleared away: then complete ones
alone keep one, and a trial that is tried again starts from the beginning, and ends the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpsc_core.attempt import AttemptPaths, Point, read_lines
from orchestrator.cluster.scratch import is_scratch
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.ownership import Ownership
from orchestrator.store.records import TrialState
from orchestrator.store.working_copy import discard, fetch, size_of

__all__ = ["Litter", "find_litter", "remove_litter", "trim"]

_KEPT_WHILE_UNFINISHED = 2
_DRAFTS = ".*.draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Litter:
    """A file or folder that nobody needs any more."""

    path: Path
    """Where it lies."""
    size: int
    """Bytes of all its files."""
    kind: str
    """What it is, in the plural."""


def find_litter(folder: SweepFolder, scratch: object) -> list[Litter]:
    """What of a sweep may go, `scratch` included: the folder of the Ray that ran it last, if there was one.

    Nobody may run the sweep meanwhile.
    """
    found: list[tuple[Path, str]] = []
    for trial in folder.trials():
        kind = f"checkpoints of {_KIND.get(trial.state, 'unfinished')} trials"
        found += [(path, kind) for path in _needless_checkpoints(trial)]
    found += [(path, "leftovers of interrupted writes") for path in folder.paths.root.rglob(_DRAFTS)]
    if isinstance(scratch, str) and is_scratch(Path(scratch)) and Path(scratch).is_dir():
        found.append((Path(scratch), "files of a Ray that is gone"))
    return [Litter(path=path, size=size_of(path) or 0, kind=kind) for path, kind in found]


def trim(trial: TrialFolder, lease: Ownership) -> None:
    """Leave a trial that has just become complete or pruned its newest checkpoint alone."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        for point, attempt in _held(trial)[1:]:
            _remove(attempt.checkpoint(*point), lease)


def remove_litter(litter: Litter, lease: Ownership) -> None:
    """Remove it; raises FencedError if somebody else has taken the sweep over."""
    _remove(litter.path, lease)


def _remove(path: Path, lease: Ownership) -> None:
    lease.check()
    is_folder = path.is_dir() and not path.is_symlink()
    if not path.match(_DRAFTS):
        discard(path, is_folder=is_folder)
    if is_folder:
        if not path.match(_DRAFTS):
            draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
            path = path.rename(draft)  # so that nobody meets it half removed
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_KIND = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAILED: "failed"}


def _needless_checkpoints(trial: TrialFolder) -> list[Path]:
    """Checkpoints that neither a reader nor another attempt needs, the newest first."""
    held = _held(trial)
    match trial.state:
        case TrialState.PRUNED | TrialState.FAILED:
            needed = 0
        case TrialState.COMPLETE:
            needed = 1
        case _:
            needed = _needed_to_go_on(trial, held)
    return [attempt.checkpoint(*point) for point, attempt in held[needed:]]


def _held(trial: TrialFolder) -> list[tuple[Point, AttemptPaths]]:
    """Its checkpoints, the newest first."""
    attempts = [trial.paths.attempt(number) for number in trial.attempts]
    held = [(point, attempt) for attempt in attempts for point in attempt.checkpoint_points()]
    return sorted(held, key=lambda each: (each[0], each[1].number), reverse=True)


def _needed_to_go_on(trial: TrialFolder, held: list[tuple[Point, AttemptPaths]]) -> int:
    """How many of the newest checkpoints to keep so that two that can be gone on from are among them."""
    if len(held) <= _KEPT_WHILE_UNFINISHED:
        return len(held)
    for number in trial.attempts:
        fetch(trial.paths.attempt(number).checkpoints)
    usable = _usable(trial)
    last = None
    for _ in range(_KEPT_WHILE_UNFINISHED):
        last = next(usable, None)
    if last is None:
        return len(held)
    return [(point, attempt.number) for point, attempt in held].index(last) + 1


def _usable(trial: TrialFolder) -> Iterator[tuple[Point, int]]:
    from cpsc_core.checkpoint import valid_checkpoints  # imports torch, which nothing else here needs

    for checkpoint in valid_checkpoints(trial.paths.root, trial.name):
        lines = read_lines(checkpoint.attempt.metrics)
        if {*range(1, checkpoint.point.epoch + 1)} <= {line["epoch"] for line in lines}:
            yield checkpoint.point, checkpoint.attempt.number
