"""The 1,797 handwritten digits that ship with scikit-learn, enlarged to 16 x 16 pixels.

Real images, nothing to download. They are the test part of the UCI "Optical Recognition of Handwritten
Digits" collection (Alpaydin and Kaynak 1998): 8 x 8 pixels with ink from 0 to 16.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_core.data.labelled import SPLITS, LabelledImages, check_split
from cpsc_core.images import ImageSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DIGITS", "Digits"]

_FULL_INK = 256
_HELD_OUT_SHARE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The data set `digits`: 1,199 training, 299 validation and 299 test images."""

    spec: ImageSpec
    """Statistics of the train split."""
    class_names: tuple[str, ...]
    """The digits."""
    flips: bool
    """False: a mirrored digit is another shape."""
    licence: str
    """Under which terms its publisher offers it."""
    published: Mapping[str, int]
    """Images by split."""

    def fingerprint(self, root: Path | None = None) -> str:
        """Hex digest of pixels, labels and splits, the same on every machine; `root` is not looked at."""
        del root
        ink_BHW, labels_B = _read()
        digest = hashlib.sha256(ink_BHW.astype("<i2").tobytes() + labels_B.astype("<i8").tobytes())
        for split in SPLITS:
            digest.update(split.encode() + _rows(split).astype("<i8").tobytes())
        return digest.hexdigest()

    def rows(self, split: str, root: Path | None = None) -> NDArray[Any]:
        """Row numbers of a split in the collection; `root` is not looked at."""
        del root
        check_split(split)
        return _rows(split)

    def load(self, split: str, root: Path | None = None) -> LabelledImages:
        """The images of one split in the order of the collection; `root` is not looked at."""
        import torch

        del root
        check_split(split)
        ink_BHW, labels_B = _read()
        rows = _rows(split)
        pixels_BHW = torch.from_numpy(ink_BHW[rows].astype(np.float32)) / _FULL_INK
        images_BCHW = ((pixels_BHW - self.spec.mean[0]) / self.spec.std[0]).unsqueeze(1)
        return LabelledImages(images_BCHW, torch.from_numpy(labels_B[rows]))


DIGITS = Digits(
    spec=ImageSpec(num_classes=10, channels=1, size=16, mean=(0.3046,), std=(0.3187,)),
    class_names=tuple("0123456789"),
    flips=False,
    licence="CC BY 4.0; Alpaydin and Kaynak, UCI, ships with scikit-learn",
    published={"train": 1199, "val": 299, "test": 299},
)


@functools.cache
def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    """All images with ink from 0 to 256 as whole numbers (B, 16, 16), and their labels (B)."""
    from sklearn.datasets import load_digits

    collection = load_digits()
    ink_BHW = _double(_double(collection.images.astype(np.int16), axis=1), axis=2)
    return ink_BHW, collection.target.astype(np.int64)


def _double(ink: NDArray[Any], axis: int) -> NDArray[Any]:
    """Bilinear enlargement by two along one axis, pixel centres aligned, values times four.

    Each new pixel lies a quarter of a pixel from its nearest old one, so it is 3/4 of that and 1/4 of the
    next. Whole numbers keep this exact: no machine rounds it differently.
    """
    last = ink.shape[axis] - 1
    before = ink.take([0, *range(last)], axis=axis)
    after = ink.take([*range(1, last + 1), last], axis=axis)
    pair = np.stack([3 * ink + before, 3 * ink + after], axis=axis + 1)
    shape = [*ink.shape]
    shape[axis] *= 2
    return pair.reshape(shape)


@functools.cache
def _rows(split: str) -> NDArray[Any]:
    """Row numbers of a split, ascending: of every class a sixth each for val and test, the rest for train.

    Rows are drawn by the hash of their number, so the splits depend on no library's random stream.
    """
    _, labels_B = _read()
    chosen: list[int] = []
    for label in np.unique(labels_B):
        drawn = sorted(np.flatnonzero(labels_B == label).tolist(), key=_draw)
        share = round(len(drawn) / _HELD_OUT_SHARE)
        chosen += {"val": drawn[:share], "test": drawn[share : 2 * share], "train": drawn[2 * share :]}[split]
    return np.array(sorted(chosen), dtype=np.int64)


def _draw(row: int) -> str:
    return hashlib.sha256(f"digits split 1, row {row}".encode()).hexdigest()
