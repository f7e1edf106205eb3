"""The table of data sets as facts to show: what each is, how large, and under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpsc_core.data.file_set import FileSet
from cpsc_core.data.own import OwnData
from cpsc_core.errors import DataError
from cpsc_core.tables import DATA_SETS, lookup

__all__ = ["Entry", "catalogue", "file_set"]

_OWN = "your own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One data set."""

    name: str
    """In the table of data sets."""
    images: Mapping[str, int]
    """By the publisher's name of a part; empty where it is not known before the files are."""
    classes: int | None
    """How many; None where the experiment file says."""
    shape: str
    """Channels and size."""
    mean: tuple[float, ...]
    """What is subtracted from pixels of 0 to 1; empty where the experiment file says."""
    std: tuple[float, ...]
    """What is divided by then."""
    megabytes: float
    """To download; 0: nothing is."""
    licence: str
    """Terms of its publisher."""


def catalogue() -> list[Entry]:
    """All data sets of the table, those of installed packages included."""
    return [_entry(name, lookup(DATA_SETS, name)) for name in sorted(DATA_SETS)]


def file_set(name: str) -> FileSet:
    """A data set that can be downloaded; DataError for one that cannot be, UnknownNameError for none."""
    found = lookup(DATA_SETS, name)
    if not isinstance(found, FileSet) or not found.downloads:
        there = ", ".join(each.name for each in catalogue() if each.megabytes)
        raise DataError(
            f"{name} is not downloaded: it ships with a package or is data of your own; {there} are"
        )
    return found


def _entry(name: str, found: Any) -> Entry:
    if isinstance(found, OwnData):
        return Entry(
            name=name, images={}, classes=None, shape=_OWN, mean=(), std=(), megabytes=0.0, licence=_OWN
        )
    spec = found.spec
    return Entry(
        name=name,
        images=dict(getattr(found, "published", {})),
        classes=spec.num_classes,
        shape=f"{spec.channels} x {spec.size} x {spec.size}",
        mean=spec.mean,
        std=spec.std,
        megabytes=sum(each.size for each in getattr(found, "downloads", ())) / 1e6,
        licence=getattr(found, "licence", ""),
    )
