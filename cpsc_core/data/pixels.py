"""Labelled images as whole numbers from 0 to 255, normalised batch by batch as they are handed out.

A byte per value instead of four: what a network is scored or trained on stays in memory for as long as the
process lives, and scoring costs inference alone. Images that would take too much memory stay in their files
and are decoded for every batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cpsc_core.data.decode import Shape
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.data.store import Store
from cpsc_core.images import ImageSpec, fitting

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeldPixels", "StoredPixels", "normalise"]


@dataclass(frozen=True, slots=True, eq=False)
class HeldPixels:
    """Images that are in memory, all decoded."""

    pixels_BCHW: Tensor
    """uint8."""
    labels_B: Tensor
    """int64, from 0."""
    spec: ImageSpec
    """With the statistics they are normalised with."""

    def __len__(self) -> int:
        return len(self.labels_B)

    def raw(self, rows_N: Tensor) -> Tensor:
        """The pixels of some images, uint8."""
        return self.pixels_BCHW[rows_N]

    def batches(self, count: int) -> Iterator[LabelledImages]:
        """The images in order and normalised, see `Images`."""
        count = fitting(count, self.spec.size)
        for start in range(0, len(self), count):
            rows = slice(start, start + count)
            yield LabelledImages(normalise(self.pixels_BCHW[rows], self.spec), self.labels_B[rows])

    def to(self, device: str) -> HeldPixels:
        """The same images on a device."""
        return replace(self, pixels_BCHW=self.pixels_BCHW.to(device), labels_B=self.labels_B.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class StoredPixels:
    """Images that stay in their files: each batch is decoded when it is asked for."""

    store: Store
    """Where they are."""
    rows_B: NDArray[Any]
    """Which of its rows, int64."""
    labels_B: Tensor
    """int64, from 0, on the device that batches are handed out on."""
    spec: ImageSpec
    """With the statistics they are normalised with."""

    def __len__(self) -> int:
        return len(self.labels_B)

    def raw(self, rows_N: Tensor) -> Tensor:
        """The pixels of some images, uint8."""
        return self._read(self.rows_B[rows_N.cpu().numpy()])

    def batches(self, count: int) -> Iterator[LabelledImages]:
        """The images in order and normalised, see `Images`."""
        count = fitting(count, self.spec.size)
        for start in range(0, len(self), count):
            rows = slice(start, start + count)
            yield LabelledImages(normalise(self._read(self.rows_B[rows]), self.spec), self.labels_B[rows])

    def to(self, device: str) -> StoredPixels:
        """The same images, handed out on a device."""
        return replace(self, labels_B=self.labels_B.to(device))

    def _read(self, rows_N: NDArray[Any]) -> Tensor:
        pixels_NCHW = self.store.read(rows_N, Shape(self.spec.channels, self.spec.size))
        return torch.from_numpy(pixels_NCHW).to(self.labels_B.device)


def normalise(pixels_BCHW: Tensor, spec: ImageSpec) -> Tensor:
    """Pixels as a network wants them, float32: brightness from 0 to 1, minus mean, over deviation."""
    mean_C11, std_C11 = (
        torch.tensor(each, device=pixels_BCHW.device).view(-1, 1, 1) for each in (spec.mean, spec.std)
    )
    return pixels_BCHW.float().div_(255).sub_(mean_C11).div_(std_C11)


def gathered(store: Store, rows_B: NDArray[Any], spec: ImageSpec, *, budget_bytes: int) -> Any:
    """Images of a store: in memory, or in their files if decoded they would take more than a budget."""
    labels_B = torch.from_numpy(store.labels_B[rows_B].astype(np.int64))
    if decoded_bytes(len(rows_B), spec) > budget_bytes:
        return StoredPixels(store, rows_B, labels_B, spec)
    pixels_BCHW = torch.from_numpy(store.read(rows_B, Shape(spec.channels, spec.size)))
    return HeldPixels(pixels_BCHW, labels_B, spec)


def decoded_bytes(count: int, spec: ImageSpec) -> int:
    """What so many decoded images take."""
    return count * spec.channels * spec.size**2
