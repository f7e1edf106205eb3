"""Data of the user's own: what it is follows from the settings, before any file is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpsc_core.data.file_set import FileSet, Layout
from cpsc_core.data.normalization import Normalization
from cpsc_core.errors import SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import DataSettings

__all__ = ["OwnData"]

_NEEDED = {
    "size": "the height and width in pixels that images are brought to",
    "classes": "how many classes there are, or their names in the order of the labels",
    "mean": "cifar10, imagenet, ... or {mean: [...], std: [...]}: what the teacher was trained with",
}
_LARGEST_SIZE = 1024
_MOST_CLASSES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnData:
    """A value of the table of data sets that only settings turn into a data set."""

    name: str
    """Name in the table of data sets."""
    layout: Callable[[DataSettings], Layout]
    """How it lies in its folder, by the settings."""
    unused: tuple[str, ...] = ()
    """Settings that mean nothing here."""

    def adapted(self, settings: DataSettings) -> FileSet:
        """The data set that settings describe; SettingsError names what is missing."""
        for name, meaning in _NEEDED.items():
            if getattr(settings, name) is None:
                word = "normalization" if name == "mean" else name
                raise SettingsError(f"data.{word} is needed for {self.name}: {meaning}")
        for name in self.unused:
            if getattr(settings, name) is not None:
                raise SettingsError(f"data.{name} means nothing for {self.name}; leave it out")
        class_names = _class_names(settings.classes)
        statistics = Normalization(settings.mean or (), settings.std or ())
        return FileSet(
            name=self.name,
            spec=ImageSpec(
                num_classes=len(class_names),
                channels=len(statistics.mean),
                size=_in_range("size", settings.size, _LARGEST_SIZE),
                mean=statistics.mean,
                std=statistics.std,
            ),
            class_names=class_names,
            flips=settings.flips is not False,
            layout=self.layout(settings),
        )


def _class_names(classes: int | tuple[str, ...] | None) -> tuple[str, ...]:
    if isinstance(classes, tuple):
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise SettingsError("data.classes must have two names or more, each once")
        return classes
    return tuple(map(str, range(_in_range("classes", classes, _MOST_CLASSES, lowest=2))))


def _in_range(name: str, number: int | None, highest: int, lowest: int = 1) -> int:
    if number is None or not lowest <= number <= highest:
        raise SettingsError(f"data.{name} must be from {lowest} to {highest:,}, but is {number}")
    return number
