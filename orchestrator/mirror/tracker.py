"""What is asked of a tracking server, and what it answers; the words of MLflow without MLflow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

__all__ = ["Attachment", "HeldRun", "Image", "Inputs", "Point", "RunStatus", "Tracker"]


class RunStatus(StrEnum):
    """How a run is shown; the names are MLflow's."""

    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    KILLED = "KILLED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether a run with this status has an end time."""
        return self not in (RunStatus.SCHEDULED, RunStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric. The server keeps two equal points once, so a point can be sent again."""

    key: str
    """Name of the metric."""
    value: float
    """Its value; NaN draws a gap."""
    timestamp: int
    """Unix time in milliseconds; the same whenever the point is sent."""
    step: int
    """Epoch, from 1."""


@dataclass(frozen=True, slots=True)
class Image:
    """One grid of synthetic images."""

    path: Path
    """The PNG file."""
    timestamp: int
    """Unix time in milliseconds; the same whenever the image is sent."""
    step: int
    """Epoch, from 1."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a run carries; sent again under the same name, it replaces itself."""

    name: str
    """Its name in the run, such as config.json."""
    content: bytes
    """What is in it."""

    @property
    def digest(self) -> str:
        """A text that is equal only for equal contents."""
        return hashlib.sha256(self.content).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the runs of a sweep were made from."""

    data: str
    """Name of the data set."""
    data_digest: str
    """Fingerprint of the data set."""
    data_source: str
    """Where its files lie, or that it ships with a package."""
    teacher: str
    """Name of the teacher's network."""
    teacher_digest: str
    """Digest of the teacher's weights."""
    teacher_facts: Mapping[str, str]
    """What else is known of the teacher."""


@dataclass(slots=True, kw_only=True)
class HeldRun:
    """What the server holds of one run, as far as we know; kept up to date while we send."""

    run_id: str
    """The server's name for the run."""
    status: RunStatus
    """How it is shown now."""
    tags: dict[str, str]
    """Its tags, ours and others'."""
    params: set[str]
    """Names of its parameters; their values cannot be changed."""
    epoch: int
    """The last epoch of which every point is there, 0 if there is none."""
    images: set[int] | None
    """Epochs whose grid is there; None: not asked yet."""
    files: dict[str, str] = field(default_factory=dict)
    """Digests of the attachments that were sent, by name; what is missing here is sent, again if need be."""
    deleted: bool = False
    """Whether somebody put it into the server's bin."""


class Tracker(Protocol):
    """One experiment on a tracking server.

    Every method raises UnreachableError if the server does not answer, and TrackingError if it answers
    that it will not do what it was asked.
    """

    def is_alive(self) -> bool:
        """Whether what was opened is still there; False once a database file was deleted or replaced."""
        ...

    def find(self, tag: str, value: str, since: int) -> list[HeldRun]:
        """Runs with one tag that started at `since` (Unix milliseconds) or later, binned ones too."""
        ...

    def create(self, name: str, started: int, tags: Mapping[str, str]) -> HeldRun:
        """Begin a run, shown as running. Asked twice, it makes two."""
        ...

    def restore(self, run_id: str) -> None:
        """Take a run out of the bin."""
        ...

    def send(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add points, all of them or none, and parameters and tags; what is there already is not doubled.

        There may be 1000 of all three together.
        """
        ...

    def drop_tag(self, run_id: str, tag: str) -> None:
        """Take a tag away."""
        ...

    def set_status(self, run_id: str, status: RunStatus, ended: int | None) -> None:
        """Show the run with another status; `ended` is Unix time in milliseconds."""
        ...

    def images(self, run_id: str) -> set[int]:
        """Epochs whose grid is there."""
        ...

    def send_image(self, run_id: str, image: Image) -> None:
        """Add a grid. Asked twice, it makes two."""
        ...

    def attach(self, run_id: str, files: Sequence[Attachment]) -> None:
        """Add files, or replace those of the same name."""
        ...

    def note_inputs(self, run_id: str, inputs: Inputs) -> None:
        """Show what a run was made from; asked twice, it shows it once."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
