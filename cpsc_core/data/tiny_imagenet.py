"""Tiny-ImageNet as it is downloaded: the archive, or the folder it unpacks to; nothing is moved by hand.

The archive is read where it is and never unpacked. The publisher's test images have no labels and are not
looked at; the labelled validation images are cut in two, half to validate and half to test.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cpsc_core.data.decode import Encoded
from cpsc_core.data.file_set import Download, FileSet, Parts
from cpsc_core.data.image_folder import read_image
from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.data.store import Files, Store
from cpsc_core.data.tiny_imagenet_classes import NAMES, WORDNET_NUMBERS
from cpsc_core.errors import DataError
from cpsc_core.images import ImageSpec

__all__ = ["TINY_IMAGENET"]

_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val/val_annotations.txt"
_LARGEST_MEMBER = 64 << 20
"""Bytes; the largest that is published has 3 MB."""

_LABELS = {number: label for label, number in enumerate(WORDNET_NUMBERS)}


@dataclass(frozen=True, slots=True)
class TinyImageNetLayout:
    """The published tree, in an archive or unpacked."""

    def files(self, root: Path) -> list[Path]:
        """The archive, or every file that is read of the tree."""
        place = _find(root)
        if place.is_file():
            return [place]
        images = sorted(path for path in place.glob("train/*/images/*") if path.is_file())
        return [*images, *sorted((place / "val/images").glob("*")), place / _ANNOTATIONS]

    def parts(self, root: Path, class_names: tuple[str, ...]) -> Parts:
        """Train and val."""
        del class_names
        place = _find(root)
        opened = _open_archive if place.is_file() else _open_folder
        return {part: partial(opened, place, labels) for part, labels in _PARTS.items()}


def _find(root: Path) -> Path:
    """The tree below a root: a folder, the root itself, or an archive."""
    for folder in (root / _FOLDER, root):
        if (folder / _ANNOTATIONS).is_file():
            return folder
    archives = sorted(root.glob(f"{_FOLDER}*.zip"))
    if len(archives) == 1:
        return archives[0]
    found = f"more than one of them: {', '.join(each.name for each in archives)}" if archives else "neither"
    raise DataError(
        f"{root} should have {_FOLDER}.zip as it is downloaded, or the folder {_FOLDER} it unpacks to, but "
        f"has {found}; {TINY_IMAGENET.advice(root)}"
    )


def _train_labels(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, int]:
    """Path and label of every training image: train/<number>/images/<file>."""
    del read
    split = ((name, name.split("/")) for name in names)
    return {
        name: _label(parts[1], name)
        for name, parts in split
        if len(parts) == 4 and parts[0] == "train" and parts[2] == "images" and parts[3]
    }


def _val_labels(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, int]:
    """Path and label of every validation image, by the publisher's list of them."""
    there = set(names)
    labels: dict[str, int] = {}
    for index, line in enumerate(read(_ANNOTATIONS).decode("utf-8", "replace").splitlines()):
        file, _, rest = line.partition("\t")
        name = f"val/images/{file}"
        if name not in there:
            raise DataError(
                f"line {index + 1} of {_ANNOTATIONS} names {name}, which is not there; restore it"
            )
        labels[name] = _label(rest.partition("\t")[0], f"line {index + 1} of {_ANNOTATIONS}")
    return labels


_PARTS = {"train": _train_labels, "val": _val_labels}


def _label(number: str, where: str) -> int:
    if number not in _LABELS:
        raise DataError(
            f"{where} is of class {number!r}, which is none of the 200 of Tiny-ImageNet; restore it"
        )
    return _LABELS[number]


def _open_folder(folder: Path, labels: Callable[..., dict[str, int]]) -> Store:
    paths = [*folder.glob("train/*/images/*"), *folder.glob("val/images/*")]
    names = [path.relative_to(folder).as_posix() for path in paths]
    chosen = labels(names, lambda name: (folder / name).read_bytes())
    ordered = sorted(chosen)
    return _files(chosen, partial(read_image, [folder / name for name in ordered]))


def _open_archive(path: Path, labels: Callable[..., dict[str, int]]) -> Store:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a zip archive that can be read ({error}); remove it and download it again"
        ) from error
    prefix = f"{_FOLDER}/"
    names = [name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)]
    read = partial(_read_member, archive, path)
    chosen = labels(names, read)
    ordered = sorted(chosen)
    return _files(chosen, lambda row: Encoded(read(ordered[row]), f"{path}, {ordered[row]}, image {row},"))


def _files(labels: dict[str, int], encoded: Callable[[int], Encoded]) -> Store:
    return Files(np.array([labels[name] for name in sorted(labels)], dtype=np.int64), encoded)


def _read_member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        member = archive.getinfo(f"{_FOLDER}/{name}")
        if member.file_size > _LARGEST_MEMBER:
            raise DataError(
                f"{name} in {path} unpacks to {member.file_size:,} bytes; it is not Tiny-ImageNet's"
            )
        return archive.read(member)
    except (KeyError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{name} in {path} cannot be read ({error}); download the archive again") from error


TINY_IMAGENET = FileSet(
    name="tiny_imagenet",
    spec=ImageSpec(
        num_classes=200,
        channels=3,
        size=64,
        mean=NORMALIZATIONS["imagenet"].mean,
        std=NORMALIZATIONS["imagenet"].std,
    ),
    class_names=NAMES,
    flips=True,
    layout=TinyImageNetLayout(),
    licence="none stated by Stanford CS231N; the images are ImageNet's, for research and education",
    published={"train": 100_000, "val": 10_000},
    downloads=(
        Download(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            248_100_043,
        ),
    ),
)
