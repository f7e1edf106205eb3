"""The attempt folder: everything the processes of one trial write while they run it once.

    attempts/<n>/
      process.json               node, pids, ranks, threads, device, versions of this attempt
      metrics.jsonl              a line per epoch; the last line of a finished trial has "final": true
      log.txt                    what the processes said
      checkpoints/epoch-0010/    state.pt and manifest.json
      samples/epoch-0010.png     class-ordered grid of synthetic images
      student.safetensors        weights after the last epoch
      generator.safetensors
      end.json                   written by the controller, not by us

This module needs no torch: the controller reads attempts with it too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["AttemptPaths", "append_line", "read_lines", "replacing", "write_json"]

_EPOCH = re.compile(r"^epoch-(\d{4,})$")


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """Where each thing in an attempt folder lies; nobody else joins these names."""

    root: Path
    """The folder attempts/<n>."""

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

    def checkpoint(self, epoch: int) -> Path:
        """Folder of the checkpoint taken after an epoch."""
        return self.checkpoints / f"epoch-{epoch:04d}"

    def sample(self, epoch: int) -> Path:
        """Grid of synthetic images after an epoch."""
        return self.samples / f"epoch-{epoch:04d}.png"

    def checkpoint_epochs(self) -> list[int]:
        """Epochs that have a checkpoint folder, ascending; whether it is valid is not looked at."""
        return _epochs(self.checkpoints)

    def sample_epochs(self) -> list[int]:
        """Epochs that have a sample grid, ascending."""
        return _epochs(self.samples)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, one per epoch, ascending; empty if there is no file.

    A torn last line (a process died while writing it) is left out. Of an epoch written twice the first
    line counts: the second can only be a repetition.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines: dict[int, dict[str, Any]] = {}
    for raw in text.split("\n"):
        try:
            line = json.loads(raw)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("epoch"), int):
            lines.setdefault(line["epoch"], line)
    return [lines[epoch] for epoch in sorted(lines)]


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add one JSON line to a file, durably; after a torn line it still starts on a line of its own."""
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a draft path that becomes `target`, durably, only if the block succeeds."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        yield draft
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, replacing what was there."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _epochs(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    matches = (_EPOCH.match(entry.stem) for entry in folder.iterdir())
    return sorted(int(match.group(1)) for match in matches if match)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
