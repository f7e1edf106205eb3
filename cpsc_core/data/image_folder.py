"""A folder of images for each class, a folder of classes for each part: train/cat/1.png.

Classes are the folders' names in the order of the alphabet, or in the order that the settings list them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cpsc_core.data.decode import Encoded
from cpsc_core.data.file_set import Parts
from cpsc_core.data.own import OwnData
from cpsc_core.data.store import Files, Store
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings

__all__ = ["IMAGEFOLDER", "FolderLayout", "read_image"]

_USUAL = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLayout:
    """Which folder has which part."""

    folders: tuple[tuple[str, str], ...] = ()
    """Part and folder below the root; a part without one has the usual name."""
    names_given: bool = False
    """Whether the order of the classes is the user's."""

    @classmethod
    def of(cls, settings: DataSettings) -> FolderLayout:
        """The layout that settings describe."""
        folders = {part: getattr(settings, part) for part in _USUAL}
        return cls(
            folders=tuple((part, folder) for part, folder in folders.items() if folder is not None),
            names_given=isinstance(settings.classes, tuple),
        )

    def files(self, root: Path) -> list[Path]:
        """All images of all parts."""
        parts = self._folders(root).values()
        return [path for folder in parts for each in _subfolders(folder) for path in _images(each)]

    def parts(self, root: Path, class_names: tuple[str, ...]) -> Parts:
        """The parts that have a folder."""
        opened = partial(_open, class_names=class_names, names_given=self.names_given)
        return {part: partial(opened, folder) for part, folder in self._folders(root).items()}

    def _folders(self, root: Path) -> dict[str, Path]:
        given, found = dict(self.folders), dict[str, Path]()
        for part, usual in _USUAL.items():
            names = (given[part],) if part in given else usual
            folder = next((root / name for name in names if (root / name).is_dir()), None)
            if folder is None and part in given:
                raise DataError(f"there is no folder {root / given[part]}; correct data.{part}")
            if folder is not None and folder.resolve() in {each.resolve() for each in found.values()}:
                raise DataError(f"{folder} would be in two parts; correct data.{part}")
            if folder is not None:
                found[part] = folder
        if not found:
            raise DataError(
                f"{root} has no folder train, val or test with one folder of images for each class; set "
                "data.root to the folder that has, or give data.train, data.val and data.test"
            )
        return found


def read_image(paths: list[Path], row: int) -> Encoded:
    """The image of a row."""
    path = paths[row]
    try:
        return Encoded(path.read_bytes(), f"{path}, image {row},")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; restore it") from error


def _open(folder: Path, *, class_names: tuple[str, ...], names_given: bool) -> Store:
    subfolders = _subfolders(folder)
    found = [each.name for each in subfolders]
    order = list(class_names) if names_given else found
    if len(found) != len(class_names) or sorted(order) != found:
        listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"{folder} has {len(found)} classes ({listed}), not the {len(class_names)} of data.classes; "
            "correct one of them"
        )
    images = [(path, order.index(each.name)) for each in subfolders for path in _images(each)]
    paths = [path for path, _ in images]
    return Files(np.array([label for _, label in images], dtype=np.int64), partial(read_image, paths))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


IMAGEFOLDER = OwnData(name="imagefolder", layout=FolderLayout.of, unused=("image", "label"))
