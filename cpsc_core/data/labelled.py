"""What a data set is: named splits of labelled images, and the facts a network must know about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from cpsc_core.errors import DataError, SettingsError
from cpsc_core.images import ImageSpec, fitting
from cpsc_core.settings import DataSettings
from cpsc_core.tables import DATA_SETS, lookup

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["DataSet", "Images", "LabelledImages", "PlacedData", "SPLITS", "check_split"]

SPLITS = ("train", "val", "test")


class Images(Protocol):
    """Labelled images, handed out in normalised batches."""

    @property
    def labels_B(self) -> Tensor:  # noqa: N802
        """int64, from 0."""

    def __len__(self) -> int: ...

    def raw(self, rows_N: Tensor) -> Tensor:
        """Some images as they are kept: normalised float32, or uint8 pixels that still have to be."""

    def batches(self, count: int) -> Iterator[LabelledImages]:
        """All images in order, `count` at a time; fewer of more than 64 px, and fewer in the last batch."""

    def to(self, device: str) -> Self:
        """The same images on a device."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images with their classes, whole in memory and normalised."""

    images_BCHW: Tensor
    """float32, normalised with the data set's own statistics."""
    labels_B: Tensor
    """int64, from 0."""

    def __len__(self) -> int:
        return len(self.labels_B)

    def raw(self, rows_N: Tensor) -> Tensor:
        """Some of the images, normalised."""
        return self.images_BCHW[rows_N]

    def batches(self, count: int) -> Iterator[LabelledImages]:
        """The same images in order, see `Images`."""
        count = fitting(count, self.images_BCHW.shape[-1])
        for start in range(0, len(self), count):
            rows = slice(start, start + count)
            yield LabelledImages(self.images_BCHW[rows], self.labels_B[rows])

    def to(self, device: str) -> LabelledImages:
        """The same images on a device."""
        return LabelledImages(self.images_BCHW.to(device), self.labels_B.to(device))


class DataSet(Protocol):
    """A data set that is ready to be read. Everything but `load` works without torch.

    The table of data sets has these, and values with a method `adapted` that makes one from settings.
    """

    @property
    def spec(self) -> ImageSpec:
        """Shape, classes and normalisation of its images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What label 0, 1, ... is called."""

    @property
    def flips(self) -> bool:
        """Whether a mirrored image keeps its class."""

    def fingerprint(self, root: Path | None) -> str:
        """Hex digest of content and splits: equal exactly when `load` gives the same images."""

    def rows(self, split: str, root: Path | None) -> NDArray[Any]:
        """Row numbers of a split in the collection it is drawn from, ascending."""

    def load(self, split: str, root: Path | None) -> Images:
        """The images of train, val or test. Raises DataError if they cannot be had."""


def check_split(split: str) -> None:
    """Raise DataError if there is no such split."""
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")


@dataclass(frozen=True, slots=True)
class PlacedData:
    """A data set together with the folder its files lie in."""

    data_set: DataSet
    """What it is."""
    root: Path | None
    """Where its files lie; None for data that ships with a package."""

    @classmethod
    def of(cls, settings: DataSettings) -> PlacedData:
        """The data set that settings describe; UnknownNameError or SettingsError if there is none."""
        found = lookup(DATA_SETS, settings.name)
        if hasattr(found, "adapted"):
            found = found.adapted(settings)
        else:
            _refuse_wishes(settings)
        root = None if settings.root is None else Path(settings.root).expanduser()
        return cls(found, root)

    @property
    def spec(self) -> ImageSpec:
        """Shape, classes and normalisation of its images."""
        return self.data_set.spec

    def fingerprint(self) -> str:
        """Hex digest of content and splits."""
        return self.data_set.fingerprint(self.root)

    def rows(self, split: str) -> NDArray[Any]:
        """Row numbers of a split in the collection it is drawn from, ascending."""
        return self.data_set.rows(split, self.root)

    def load(self, split: str) -> Images:
        """The images of train, val or test."""
        return self.data_set.load(split, self.root)


def _refuse_wishes(settings: DataSettings) -> None:
    for each in fields(settings):
        if each.name not in ("name", "root") and getattr(settings, each.name) is not None:
            word = "normalization" if each.name in ("mean", "std") else each.name
            raise SettingsError(f"data.{word} must be left out: {settings.name} comes as it is")
