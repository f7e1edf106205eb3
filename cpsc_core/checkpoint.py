"""Checkpoints that are whole or not there.

    epoch-0010/  state.pt       the state, as torch saves it
                 manifest.json  digest and size of the state, the trial and how far it was, its own digest

A folder is written beside its place and renamed into it: a process that dies and a disk that fills up leave
the checkpoints before it as they were. torch does not notice flipped bits; the digests do.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpsc_core.attempt import AttemptPaths, Point, attempts_of, make_durable
from cpsc_core.errors import CheckpointError

__all__ = [
    "Checkpoint",
    "keep_newest",
    "load_checkpoint",
    "newest_valid",
    "save_checkpoint",
    "valid_checkpoints",
]

logger = logging.getLogger(__name__)

_STATE = "state.pt"
_MANIFEST = "manifest.json"
_OWN_DIGEST = "manifest_sha256"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint whose content matches its manifest."""

    attempt: AttemptPaths
    """The attempt that wrote it."""
    point: Point
    """How far the trial was."""
    state: dict[str, Any]
    """What was saved."""


def save_checkpoint(
    folder: Path, state: Mapping[str, Any], *, trial: str, attempt: int, epoch: int, iteration: int = 0
) -> None:
    """Write a checkpoint folder, durably, or nothing at all.

    The folder is one of `AttemptPaths.checkpoint` and must not exist yet. Raises OSError if the disk will not
    have it.
    """
    buffer = io.BytesIO()  # not torch.save to a file: its error on a full disk does not say so
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    manifest = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "trial": trial,
        "attempt": attempt,
        "epoch": epoch,
        "iteration": iteration,
    }
    manifest[_OWN_DIGEST] = _digest(manifest)
    with _replacing_folder(folder) as draft:
        _write(draft / _STATE, content)
        _write(draft / _MANIFEST, json.dumps(manifest, indent=1).encode())


def load_checkpoint(folder: Path, trial: str) -> dict[str, Any]:
    """The state in a checkpoint folder, on the CPU.

    Nothing is unpickled before the digest holds, and then only tensors and plain values. Raises
    CheckpointError if a file is missing or damaged, or if it was written by another trial.
    """
    manifest = _read_manifest(folder)
    if manifest["trial"] != trial:
        raise CheckpointError(
            f"{folder} was written by trial {manifest['trial']}, not by {trial}; it was moved, remove it"
        )
    content = _read(folder / _STATE)
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise CheckpointError(
            f"{folder / _STATE} is damaged: the digest of its {len(content)} bytes is not the one that the "
            f"manifest has of {manifest['size']} bytes"
        )
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a state provokes that its writer did not mean to be one
        raise CheckpointError(
            f"{folder / _STATE} holds more than tensors and plain values; remove it"
        ) from error
    return state


def valid_checkpoints(trial_folder: Path, trial: str) -> Iterator[Checkpoint]:
    """The checkpoints of all attempts that hold, newest first; of the same point the newest attempt's.

    One that does not hold is skipped; a warning names it, the reason and what is used instead.
    """
    found = [
        (point, attempt.number)
        for attempt in attempts_of(trial_folder)
        for point in attempt.checkpoint_points()
    ]
    skipped: list[str] = []
    for point, number in sorted(found, reverse=True):
        attempt = AttemptPaths.of(trial_folder, number)
        folder = attempt.checkpoint(*point)
        try:
            state = load_checkpoint(folder, trial)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        _warn(skipped, instead=str(folder))
        skipped.clear()
        yield Checkpoint(attempt=attempt, point=point, state=state)
    _warn(skipped, instead="the beginning")


def newest_valid(trial_folder: Path, trial: str) -> Checkpoint | None:
    """The checkpoint a new attempt of a trial goes on from; None if it starts from the beginning."""
    return next(valid_checkpoints(trial_folder, trial), None)


def keep_newest(attempt: AttemptPaths, count: int = 2) -> None:
    """Remove all but the newest checkpoints of an attempt, and what an interrupted removal left."""
    for point in attempt.checkpoint_points()[:-count]:
        folder = attempt.checkpoint(*point)
        folder.rename(_draft(folder))  # so that nobody meets it half removed
    for draft in attempt.checkpoints.glob(".*.draft"):
        shutil.rmtree(draft)


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a draft folder that becomes `folder`, durably, only if the block succeeds."""
    draft = _draft(folder)
    draft.mkdir(parents=True)
    try:
        yield draft
        make_durable(draft)
        draft.rename(folder)
        make_durable(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.draft")


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
    make_durable(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(_read(path))
        own_digest = manifest.pop(_OWN_DIGEST)
        point = Point(manifest["epoch"], manifest["iteration"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: it is not a manifest ({error})") from error
    if own_digest != _digest(manifest):
        raise CheckpointError(f"{path} is damaged: its digest is not the one it ends with")
    if str(point) != folder.name:
        raise CheckpointError(f"{folder} holds the checkpoint of {point}; it was renamed, remove it")
    return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _warn(skipped: list[str], *, instead: str) -> None:
    for reason in skipped:
        logger.warning("skipping a checkpoint: %s; going on from %s", reason, instead)
