"""What a data set is: named splits of labelled images, and the facts a network must know about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cpsc_core.errors import DataError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import DataSettings
from cpsc_core.tables import DATA_SETS, lookup

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DataSet", "LabelledImages", "PlacedData", "SPLITS", "check_split"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images with their classes, whole in memory."""

    images_BCHW: Tensor
    """float32, normalised with the data set's own statistics."""
    labels_B: Tensor
    """int64, from 0."""

    def __len__(self) -> int:
        return len(self.labels_B)

    def batches(self, size: int) -> Iterator[LabelledImages]:
        """The same images in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield LabelledImages(self.images_BCHW[rows], self.labels_B[rows])

    def to(self, device: str) -> LabelledImages:
        """The same images on a device."""
        return LabelledImages(self.images_BCHW.to(device), self.labels_B.to(device))


class DataSet(Protocol):
    """A value of the table of data sets. Everything but `load` works without torch."""

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

    def load(self, split: str, root: Path | None) -> LabelledImages:
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
        """The data set that settings name; UnknownNameError if there is none."""
        root = None if settings.root is None else Path(settings.root).expanduser()
        return cls(lookup(DATA_SETS, settings.name), root)

    @property
    def spec(self) -> ImageSpec:
        """Shape, classes and normalisation of its images."""
        return self.data_set.spec

    def fingerprint(self) -> str:
        """Hex digest of content and splits."""
        return self.data_set.fingerprint(self.root)

    def load(self, split: str) -> LabelledImages:
        """The images of train, val or test."""
        return self.data_set.load(split, self.root)
