"""Where the images of one part of a data set lie, and how any of them are had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from cpsc_core.data.decode import Encoded, Shape, as_pixels, decode_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrays", "Files", "Store", "empty"]


class Store(Protocol):
    """One part of a data set: labels in memory, images wherever they lie."""

    @property
    def labels_B(self) -> NDArray[Any]:  # noqa: N802
        """int64, from 0, in the order of the part."""

    @property
    def is_random(self) -> bool:
        """Whether rows in any order cost the same."""

    def read(self, rows_N: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """The images of some rows, uint8 (N, C, H, W); DataError names one that cannot be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Images that are each encoded by themselves, and can be had in any order."""

    labels_B: NDArray[Any]
    """int64, from 0."""
    encoded: Callable[[int], Encoded]
    """The image of a row; called by one thread at a time."""
    is_random: bool = True
    """Rows in any order cost the same."""

    def read(self, rows_N: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """The images of some rows."""
        out_NCHW = empty(len(rows_N), shape)
        decode_all(map(self.encoded, rows_N.tolist()), shape, out_NCHW)
        return out_NCHW


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Images that were never encoded: all pixels are at hand."""

    labels_B: NDArray[Any]
    """int64, from 0."""
    pixels_BHWC: NDArray[Any]
    """uint8."""
    is_random: bool = True
    """Rows in any order cost the same."""

    def read(self, rows_N: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """The images of some rows."""
        chosen_NHWC = self.pixels_BHWC[rows_N]
        if chosen_NHWC.shape[1:] == (shape.size, shape.size, shape.channels):
            return np.ascontiguousarray(chosen_NHWC.transpose(0, 3, 1, 2))
        out_NCHW = empty(len(rows_N), shape)
        for row, picture in enumerate(_pictures(chosen_NHWC)):
            out_NCHW[row] = as_pixels(picture, shape)
        return out_NCHW


def empty(count: int, shape: Shape) -> NDArray[Any]:
    """Room for some images."""
    return np.empty((count, shape.channels, shape.size, shape.size), dtype=np.uint8)


def _pictures(pixels_BHWC: NDArray[Any]) -> Iterator[Image.Image]:
    for pixels_HWC in pixels_BHWC:
        yield Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC)
