"""The blocks `data` and `teacher` of an experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from cpsc_core.data.normalization import normalization
from cpsc_core.settings import DataSettings, TeacherTraining
from orchestrator.config.block import Block, Count

__all__ = ["Data", "LocalPath", "Teacher"]


def _check_local(raw: Any) -> Any:
    if isinstance(raw, str) and (not raw or "://" in raw):
        raise PydanticCustomError("path", "must be a path on this machine")
    return raw


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise PydanticCustomError("home", "names the home folder of a user who does not exist") from error


def _check_below(pattern: str) -> str:
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise PydanticCustomError("below", "must be relative to data.root and stay below it")
    return pattern


LocalPath = Annotated[Path, BeforeValidator(_check_local), AfterValidator(_expand_home)]
Below = Annotated[str, AfterValidator(_check_below)]


class Statistics(Block):
    """How pixels from 0 to 1 are normalised, a number for each channel."""

    mean: tuple[float, ...]
    """What is subtracted."""
    std: tuple[Annotated[float, Gt(0.0)], ...]
    """What is divided by then."""


Normalised = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Statistics, Tag("<given>")],
    Discriminator(lambda raw: "<given>" if isinstance(raw, dict | Statistics) else "<name>"),
]
Classes = Annotated[
    Annotated[Count, Tag("<count>")] | Annotated[tuple[str, ...], Tag("<names>")],
    Discriminator(lambda raw: "<names>" if isinstance(raw, list | tuple) else "<count>"),
]


class Data(Block):
    """Where the held-out images come from, and the training images if a teacher is trained."""

    name: str
    """Name in the table of data sets."""
    root: LocalPath | None = None
    """Folder with the files; null for data that ships with a package."""
    normalization: Normalised | None = None
    """The teacher's: cifar10, imagenet, ... or {mean: [...], std: [...]}; null: the data set's own."""
    size: Annotated[int, Ge(1), Le(1024)] | None = None
    """Height and width in pixels that images are brought to; null: their own."""
    classes: Classes | None = None
    """For parquet and imagefolder: how many there are, or their names in the order of the labels."""
    flips: bool | None = None
    """For parquet and imagefolder: whether a mirrored image keeps its class; null: it does."""
    train: Below | None = None
    """For parquet and imagefolder: pattern of the files, or folder, below root; null: the usual names."""
    val: Below | None = None
    """The same for validation images; without a test part half of them are kept for the test."""
    test: Below | None = None
    """The same for test images; without a validation part half of them validate."""
    image: str | None = None
    """For parquet: the column with the images; null: the only one that can be."""
    label: str | None = None
    """For parquet: the column with the classes; null: the only one that can be."""

    def settings(self) -> DataSettings:
        """What the core must know; SettingsError if no normalisation has the name."""
        plain = self.model_dump(exclude={"root", "normalization"})
        given = self.normalization
        statistics = normalization(given) if isinstance(given, str) else given
        return DataSettings(
            **plain,
            root=None if self.root is None else str(self.root.absolute()),
            mean=None if statistics is None else statistics.mean,
            std=None if statistics is None else statistics.std,
        )


class Teacher(Block):
    """The trained network that is distilled."""

    arch: str
    """Name in the table of networks."""
    checkpoint: LocalPath | None = None
    """File with its weights; null: it is trained once with the settings under `train`, and kept."""
    expected_accuracy: Annotated[float, Ge(0.0), Le(1.0)] | None = None
    """What it should score on validation images, 0 to 1: one that scores less is refused."""
    train: TeacherTraining = Field(default_factory=TeacherTraining)
    """How it is trained where there is no checkpoint."""
