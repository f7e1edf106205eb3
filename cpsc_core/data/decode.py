"""Encoded images as pixels of one shape, decoded by several threads.

An image that cannot be decoded is named, by file and index. One that claims to be huge is refused before it
is decoded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cpsc_core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Encoded", "Shape", "as_pixels", "decode", "decode_all"]

LARGEST_PIXELS = 50_000_000
"""An image with more is taken for a decompression bomb."""
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """What every image of a data set is brought to."""

    channels: int
    """1: grey, 3: colour."""
    size: int
    """Height and width in pixels."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file, wherever it lies."""

    content: bytes
    """As the file holds it."""
    name: str
    """Its file and its index there, for messages."""


def decode_all(images: Iterable[Encoded], shape: Shape, out_BCHW: NDArray[Any]) -> None:
    """Decode images into an array of uint8, in their order, on all the processor's cores."""
    row, rest = 0, iter(images)
    with ThreadPoolExecutor(_threads()) as pool:
        while chunk := list(islice(rest, _AT_ONCE)):  # encoded images are never in memory all at once
            for pixels_CHW in pool.map(lambda image: decode(image, shape), chunk):
                out_BCHW[row] = pixels_CHW
                row += 1


def decode(image: Encoded, shape: Shape) -> NDArray[Any]:
    """The pixels of an image, uint8 (C, H, W); raises DataError naming it."""
    try:
        with Image.open(io.BytesIO(image.content)) as picture:
            _check(picture, image.name)
            return as_pixels(picture, shape)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a broken file provokes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = "no known image format" if "cannot identify" in reason else reason
        raise DataError(
            f"{image.name} is not an image that can be decoded ({reason}); restore it, or remove it"
        ) from error


def as_pixels(picture: Image.Image, shape: Shape) -> NDArray[Any]:
    """A picture in the shape's channels and size, uint8 (C, H, W).

    Of another size, its shorter side is scaled to fit and the middle is kept.
    """
    mode = "L" if shape.channels == 1 else "RGB"
    if picture.mode != mode:
        picture = (picture.convert("RGBA") if picture.mode == "P" else picture).convert(mode)
    if picture.size != (shape.size, shape.size):
        picture = _fit(picture, shape.size)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def _fit(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _check(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > LARGEST_PIXELS:
        raise DataError(
            f"{name} claims to be {width} x {height} pixels, but at most {LARGEST_PIXELS:,} are decoded; "
            "remove it, or scale it down"
        )
    if picture.mode in _DEEP_MODES:
        raise DataError(f"{name} has more than 8 bits a channel ({picture.mode}); save it with 8")


def _threads() -> int:
    return min(16, len(os.sched_getaffinity(0)))
