"""A kept teacher: the folder it lies in and the card that says what it is. Needs no torch.

teachers/<key>/  teacher.safetensors   weights
                 probe.safetensors     synthetic images on which agreement with the teacher is measured
                 card.json             written last: a folder with a card is whole
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc_core.attempt import write_json
from cpsc_core.errors import TeacherError
from cpsc_core.settings import TeacherSettings, TeacherTraining

__all__ = ["TeacherCard", "TeacherFolder", "read_card", "teacher_key", "write_card"]

_KEPT_AS = 3
"""Raised when what is kept for the same teacher changes: its probe images, or what its card says."""


@dataclass(frozen=True, slots=True)
class TeacherFolder:
    """Where each file of a kept teacher lies."""

    root: Path
    """The folder teachers/<key>."""

    @property
    def weights(self) -> Path:
        """The network's weights."""
        return self.root / "teacher.safetensors"

    @property
    def probe(self) -> Path:
        """Synthetic images on which agreement with the teacher is measured."""
        return self.root / "probe.safetensors"

    @property
    def card(self) -> Path:
        """What the teacher is."""
        return self.root / "card.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCard:
    """card.json: what a kept teacher is."""

    key: str
    """The name of its folder."""
    arch: str
    """Name in the table of networks."""
    num_classes: int
    """Classes it tells apart."""
    sha256: str
    """Digest of its weights file."""
    accuracy: float
    """Top-1 accuracy on the validation split, 0 to 1."""
    test_accuracy: float
    """Top-1 accuracy on the test split, 0 to 1."""
    data: str
    """Name of the data set."""
    data_fingerprint: str
    """Digest of the data set's content and splits."""
    splits: dict[str, Any]
    """For val and test how many images they have, and the digest of the rows they are."""
    mean: tuple[float, ...]
    """Per-channel mean that was subtracted from the images it was trained or checked on."""
    std: tuple[float, ...]
    """Per-channel deviation they were divided by."""
    training: dict[str, Any] | None
    """How it was trained; null if its weights were given."""
    probe_share: float
    """Share of the probe images that it puts in the intended class with a probability of 0.9 or more."""
    versions: dict[str, str]
    """Of python, torch and cpsc_core, when it was kept."""

    def settings(self, folder: Path) -> TeacherSettings:
        """What a trial must know of the teacher kept in a folder."""
        files = TeacherFolder(folder)
        return TeacherSettings(
            arch=self.arch,
            weights=str(files.weights),
            sha256=self.sha256,
            accuracy=self.accuracy,
            probe=str(files.probe),
            mean=self.mean,
            std=self.std,
        )


def teacher_key(arch: str, data_fingerprint: str, origin: TeacherTraining | Path) -> str:
    """Name of the folder a teacher is kept in.

    `origin` is how it is trained, or the weights file that is given: equal keys mean equal trainings or equal
    contents. Raises TeacherError if there is no such file.
    """
    if isinstance(origin, TeacherTraining):
        return _key(arch, data_fingerprint, dataclasses.asdict(origin))
    try:
        content = origin.read_bytes()
    except OSError as error:
        raise TeacherError(
            f"the weights file {origin} cannot be read: {error.strerror}; check its path"
        ) from error
    return _key(arch, data_fingerprint, {"sha256": hashlib.sha256(content).hexdigest()})


def read_card(folder: Path) -> TeacherCard | None:
    """The card of a kept teacher, or None if the folder is not whole; TeacherError if it is damaged."""
    path = TeacherFolder(folder).card
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return TeacherCard(**raw | {name: tuple(raw[name]) for name in ("mean", "std")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TeacherError(f"{path} is damaged ({error}); remove {folder} to have it made again") from error


def write_card(folder: Path, card: TeacherCard) -> None:
    """Declare a teacher folder whole."""
    write_json(TeacherFolder(folder).card, dataclasses.asdict(card))


def _key(arch: str, data_fingerprint: str, origin: dict[str, Any]) -> str:
    meaning = {"arch": arch, "data": data_fingerprint, "origin": origin, "kept_as": _KEPT_AS}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]
