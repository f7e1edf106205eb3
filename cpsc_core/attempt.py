"""The attempt folder: everything the processes of one trial write while they run it once.

    attempts/<n>/
      process.json               node, pids, ranks, threads, device, versions of this attempt
      metrics.jsonl              a line per epoch; the last line of a finished trial has "final": true
      log.txt                    what the processes said
      checkpoints/epoch-0010/    state.pt and manifest.json; epoch-0010-iteration-0003 if stopped in between
      samples/epoch-0010.png     class-ordered grid of synthetic images
      per_class.json             student's and teacher's accuracy on every class, after the last epoch
      costs.json                 the student's parameters and latency and the peak of memory, likewise
      student.safetensors        weights after the last epoch
      generator.safetensors
      end.json                   written by the controller, not by us

This module needs no torch: the controller reads attempts with it too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

__all__ = [
    "AttemptPaths",
    "CLOCK_KEYS",
    "Point",
    "append_line",
    "attempts_of",
    "make_durable",
    "make_folder",
    "read_lines",
    "replacing",
    "write_json",
    "write_lines",
]

CLOCK_KEYS = frozenset({"latency", "peak_memory_gb", "seconds"})
"""Names of measurements that depend on the clock or the machine, and so differ between equal trials."""

_ATTEMPTS = "attempts"
_POINT = re.compile(r"^epoch-(\d{4,})(?:-iteration-(\d{4,}))?$")


class Point(NamedTuple):
    """How far a trial is; a later point is a greater one."""

    epoch: int
    """Finished epochs."""
    iteration: int = 0
    """Finished iterations of the next epoch."""

    def __str__(self) -> str:
        suffix = f"-iteration-{self.iteration:04d}" if self.iteration else ""
        return f"epoch-{self.epoch:04d}{suffix}"


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """Where each thing in an attempt folder lies; nobody else joins these names."""

    root: Path
    """The folder attempts/<n>."""

    @classmethod
    def of(cls, trial_folder: Path, number: int) -> Self:
        """One attempt of a trial."""
        return cls(trial_folder / _ATTEMPTS / str(number))

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return int(self.root.name)

    @property
    def process(self) -> Path:
        """What ran this attempt, and where."""
        return self.root / "process.json"

    @property
    def metrics(self) -> Path:
        """A JSON line per finished epoch."""
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What the trial's processes said."""
        return self.root / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoint folders."""
        return self.root / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of sample grids."""
        return self.root / "samples"

    @property
    def costs(self) -> Path:
        """What the student costs, see cpsc_core.costs; written after the last epoch."""
        return self.root / "costs.json"

    @property
    def per_class(self) -> Path:
        """Student's and teacher's accuracy on every class of every held-out split, after the last epoch."""
        return self.root / "per_class.json"

    @property
    def student(self) -> Path:
        """Weights of the student after the last epoch."""
        return self.root / "student.safetensors"

    @property
    def generator(self) -> Path:
        """Weights of the generator after the last epoch."""
        return self.root / "generator.safetensors"

    @property
    def end(self) -> Path:
        """How the attempt ended, in the controller's words."""
        return self.root / "end.json"

    def checkpoint(self, epoch: int, iteration: int = 0) -> Path:
        """Folder of the checkpoint taken after an epoch, or after some iterations of the next one."""
        return self.checkpoints / str(Point(epoch, iteration))

    def sample(self, epoch: int) -> Path:
        """Grid of synthetic images after an epoch."""
        return self.samples / f"{Point(epoch)}.png"

    def checkpoint_points(self) -> list[Point]:
        """Points that have a checkpoint folder, ascending; whether it is valid is not looked at."""
        return _points(self.checkpoints)

    def sample_epochs(self) -> list[int]:
        """Epochs that have a sample grid, ascending."""
        return [point.epoch for point in _points(self.samples)]


def attempts_of(trial_folder: Path) -> list[AttemptPaths]:
    """The attempts of a trial that have a folder, in the order they were made."""
    folder = trial_folder / _ATTEMPTS
    if not folder.is_dir():
        return []
    numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
    return [AttemptPaths.of(trial_folder, number) for number in numbers]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, one per epoch, ascending; empty if there is no file.

    A torn or damaged line is left out. Of an epoch written twice the first line counts: the second can only
    be a repetition.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines: dict[int, dict[str, Any]] = {}
    for raw in text.split("\n"):
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("epoch"), int):
            lines.setdefault(line["epoch"], line)
    return [lines[epoch] for epoch in sorted(lines)]


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add one JSON line to a file, durably; after a torn line it still starts on a line of its own."""
    data = _encode(line)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        while data:  # a disk that is almost full takes a part and reports the error only for the rest
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if not size:
        make_durable(path.parent)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a metrics file whole or not at all, replacing what was there."""
    with replacing(path) as draft:
        draft.write_bytes(b"".join(_encode(line) for line in lines))


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a draft path that becomes `target`, durably, only if the block succeeds."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        yield draft
        make_durable(draft)
        draft.replace(target)
        make_durable(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, replacing what was there."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_durable(path: Path) -> None:
    """Return once a file's content, or a folder's list of names, would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder, and those above it that are missing, durably."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        make_durable(each.parent)


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _points(folder: Path) -> list[Point]:
    if not folder.is_dir():
        return []
    matches = (_POINT.match(entry.stem) for entry in folder.iterdir())
    return sorted(Point(int(match[1]), int(match[2] or 0)) for match in matches if match)
