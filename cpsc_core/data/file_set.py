"""A data set that lies in files: which splits it has, what identifies it, and what it is loaded as."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cpsc_core.data.digests import file_digests
from cpsc_core.data.labelled import Images, check_split
from cpsc_core.data.normalization import Normalization
from cpsc_core.data.splits import HELD_OUT, cut_in_half, rows_digest
from cpsc_core.data.store import Store
from cpsc_core.errors import DataError, SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import DataSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Download", "FileSet", "Layout", "Parts", "adjusted"]

logger = logging.getLogger(__name__)

HELD_OUT_BUDGET = 4 << 30
"""Bytes of decoded images up to which a split that students are scored on is held in memory."""
_TRAIN_SHARE = 2
"""A training split may take one part in so many of the memory that is free."""

Parts = Mapping[str, Callable[[], Store]]
"""What is published: some of train, val and test, each opened when it is needed."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file that a publisher offers."""

    url: str
    """Where."""
    path: str
    """Where it belongs below the data set's root."""
    md5: str
    """Digest of its content, as published."""
    size: int
    """Bytes, for people; not checked."""
    unpack: str | None = None
    """What it becomes below the root, if it is an archive that is unpacked."""


class Layout(Protocol):
    """How a kind of data set lies in its folder. Equal layouts read equally: they are compared."""

    def files(self, root: Path) -> list[Path]:
        """Every file that decides the content; DataError if one is missing."""

    def parts(self, root: Path, class_names: tuple[str, ...]) -> Parts:
        """What the folder has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """A data set in files.

    With both val and test published, each is that split. With only one of them, half of it is val and half
    test, see `splits.cut_in_half`.
    """

    name: str
    """Name in the table of data sets."""
    spec: ImageSpec
    """Shape, classes and normalisation of its images."""
    class_names: tuple[str, ...]
    """What label 0, 1, ... is called."""
    flips: bool
    """Whether a mirrored image keeps its class."""
    layout: Layout
    """How it lies in its folder."""
    licence: str = ""
    """Under which terms its publisher offers it."""
    published: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Images by the publisher's name of a part."""
    downloads: tuple[Download, ...] = ()
    """Where it can be had; empty: it is the user's own."""

    def adapted(self, settings: DataSettings) -> FileSet:
        """The data set as settings want it: of another size, normalised in another way."""
        given = [name for name in _USER_ONLY if getattr(settings, name) is not None]
        if given:
            raise SettingsError(
                f"data.{given[0]} is for data of your own (parquet, imagefolder); {self.name} has its own"
            )
        return adjusted(self, settings)

    def fingerprint(self, root: Path | None) -> str:
        """Hex digest of all files, of the splits, and of what is made of the images."""
        place = self._place(root)
        return _fingerprint(self, place, _mark(self, place))

    def rows(self, split: str, root: Path | None) -> NDArray[Any]:
        """Row numbers of a split in the published part it is drawn from, ascending."""
        return _rows(self, self._place(root), split)[1]

    def load(self, split: str, root: Path | None) -> Images:
        """The images of a split. Val and test are kept for the life of the process, decoded once."""
        check_split(split)
        place = self._place(root)
        return (
            _load(self, place, split) if split == "train" else _kept(self, place, split, _mark(self, place))
        )

    def _place(self, root: Path | None) -> Path:
        if root is None:
            raise DataError(
                f"the data set {self.name} lies in files; set data.root to the folder they are in"
            )
        if not root.is_dir():
            raise DataError(f"there is no folder {root}, where {self.name} should be; {self.advice(root)}")
        return root

    def advice(self, root: Path) -> str:
        """What to do where the data set is missing."""
        if not self.downloads:
            return "set data.root to the folder it is in"
        size = sum(each.size for each in self.downloads) / 1e6
        return (
            f"download it ({size:.0f} MB) with `cpsc-orchestrate data {self.name} --root {root}`, or set "
            "data.root to the folder it is in"
        )


_USER_ONLY = ("train", "val", "test", "image", "label", "classes", "flips")


def adjusted(data_set: FileSet, settings: DataSettings) -> FileSet:
    """A data set with the size and the normalisation that settings give."""
    spec = data_set.spec
    if settings.size is not None:
        spec = replace(spec, size=settings.size)
    if settings.mean is not None or settings.std is not None:
        wanted = Normalization(settings.mean or spec.mean, settings.std or spec.std)
        if len(wanted.mean) != spec.channels:
            raise SettingsError(
                f"data.normalization must be for images of {spec.channels} channels, as {data_set.name} has, "
                f"but is for {len(wanted.mean)}"
            )
        spec = replace(spec, mean=wanted.mean, std=wanted.std)
    return replace(data_set, spec=spec)


def _relative(root: Path) -> Callable[[Path], str]:
    return lambda path: str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _mark(data_set: FileSet, root: Path) -> str:
    """Changes when a file does."""
    mark = hashlib.sha256()
    for path in data_set.layout.files(root):
        stat = path.stat()
        mark.update(os.fsencode(path) + f" {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}\n".encode())
    return mark.hexdigest()


@lru_cache(maxsize=8)
def _fingerprint(data_set: FileSet, root: Path, mark: str) -> str:
    del mark
    files = data_set.layout.files(root)
    content = {
        "files": dict(zip(map(_relative(root), files), file_digests(files), strict=True)),
        "rows": {split: rows_digest(_rows(data_set, root, split)[1]) for split in HELD_OUT},
        "spec": asdict(data_set.spec),
        "layout": repr(data_set.layout),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=4)
def _kept(data_set: FileSet, root: Path, split: str, mark: str) -> Images:
    del mark
    return _load(data_set, root, split)


def _load(data_set: FileSet, root: Path, split: str) -> Images:
    from cpsc_core.data.pixels import decoded_bytes, gathered

    store, rows_B = _rows(data_set, root, split)
    if not len(rows_B):
        raise DataError(f"the split {split} of {data_set.name} in {root} has no image")
    budget = HELD_OUT_BUDGET if split != "train" else _free_bytes() // _TRAIN_SHARE
    needed = decoded_bytes(len(rows_B), data_set.spec)
    if needed > budget:
        what = f"the split {split} of {data_set.name} takes {needed / 1e9:.1f} GB decoded"
        _do_without_memory(what, budget, must_be_random=split == "train" and not store.is_random)
    images: Images = gathered(store, rows_B, data_set.spec, budget_bytes=budget)
    return images


def _do_without_memory(what: str, budget: int, *, must_be_random: bool) -> None:
    """Tell that images stay in their files, or refuse where that would take for ever."""
    limit = f"{what}, but only {budget / 1e9:.1f} GB may be used for it here"
    if must_be_random:
        raise DataError(
            f"{limit}, and its files cannot be read in random order; set data.size to less, use a "
            "machine with more memory, or an image folder"
        )
    logger.warning("%s: its images are decoded again whenever they are shown", limit)


def _rows(data_set: FileSet, root: Path, split: str) -> tuple[Store, NDArray[Any]]:
    """Where the images of a split are, and which rows of it they are."""
    parts = data_set.layout.parts(root, data_set.class_names)
    if split in parts and (split == "train" or all(each in parts for each in HELD_OUT)):
        store = _checked(data_set, root, parts[split]())
        return store, np.arange(len(store.labels_B), dtype=np.int64)
    single = next((each for each in HELD_OUT if each in parts), None)
    if split == "train" or single is None:
        needed = "no teacher can be trained on it" if split == "train" else "nothing can be scored on it"
        raise DataError(f"{data_set.name} in {root} has no part for {split}: {needed}; {_missing(split)}")
    store = _checked(data_set, root, parts[single]())
    return store, cut_in_half(store.labels_B)[split]


def _missing(split: str) -> str:
    if split == "train":
        return "add training images, or give a teacher.checkpoint"
    return "add a part called val or test"


def _checked(data_set: FileSet, root: Path, store: Store) -> Store:
    labels_B, classes = store.labels_B, data_set.spec.num_classes
    if len(labels_B) and not 0 <= int(labels_B.min()) <= int(labels_B.max()) < classes:
        row = int(np.flatnonzero((labels_B < 0) | (labels_B >= classes))[0])
        raise DataError(
            f"row {row} of {data_set.name} in {root} has the label {int(labels_B[row])}, but there are "
            f"{classes} classes, counted from 0; correct data.classes, or choose another label column"
        )
    return store


def _free_bytes() -> int:
    """Memory that new data may take on this machine."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise DataError("/proc/meminfo does not say how much memory is free; Linux is needed")
