"""Training images in shuffled, augmented batches, as a function of the epoch.

Images are cropped and mirrored as they are kept, bytes where they are bytes, and normalised batch by batch: a
training set never exists in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpsc_core.data.labelled import Images, LabelledImages
from cpsc_core.data.pixels import normalise
from cpsc_core.images import ImageSpec
from cpsc_core.seeds import stream_seed
from cpsc_core.settings import TeacherTraining

__all__ = ["Batches"]

CROP_SHARE = 8
"""Random crops move an image by up to one part in so many of its size."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The training images in batches."""

    images: Images
    """All of them, on the device that is trained on."""
    training: TeacherTraining
    """Batch size, seed, and whether to augment."""
    spec: ImageSpec
    """What the images are."""
    flips: bool
    """Whether a mirrored image keeps its class."""

    @property
    def per_epoch(self) -> int:
        """Whole batches; what is left over waits for another epoch's order."""
        return max(1, len(self.images) // self.training.batch_size)

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate: half a cosine from its peak to zero."""
        share = (epoch * self.per_epoch + step) / (self.training.epochs * self.per_epoch)
        return self.training.lr * (1 + math.cos(math.pi * share)) / 2

    def of_epoch(self, epoch: int) -> Iterator[LabelledImages]:
        """Every batch of an epoch, augmented and normalised."""
        order = self._chance("order", epoch, 0).permutation(len(self.images))
        for step in range(self.per_epoch):
            rows = torch.from_numpy(order[step * self.training.batch_size :][: self.training.batch_size])
            rows = rows.to(self.images.labels_B.device)
            raw_BCHW = self.images.raw(rows)
            if self.training.augment:
                raw_BCHW = self._augment(raw_BCHW, self._chance("augment", epoch, step))
            if not raw_BCHW.is_floating_point():
                raw_BCHW = normalise(raw_BCHW, self.spec)
            yield LabelledImages(raw_BCHW, self.images.labels_B[rows])

    def _augment(self, raw_BCHW: Tensor, chance: np.random.Generator) -> Tensor:
        device, count = raw_BCHW.device, len(raw_BCHW)
        reach = self.spec.size // CROP_SHARE
        shifts_2B = torch.from_numpy(chance.integers(0, 2 * reach + 1, (2, count))).to(device)
        if self.flips:
            flip_B = torch.from_numpy(chance.integers(2, size=count) == 1).to(device)
            raw_BCHW = torch.where(flip_B.view(-1, 1, 1, 1), raw_BCHW.flip(3), raw_BCHW)
        black = self.spec.level(0.0) if raw_BCHW.is_floating_point() else (0,) * self.spec.channels
        black_C11 = torch.tensor(black, device=device, dtype=raw_BCHW.dtype).view(-1, 1, 1)
        return _crop(raw_BCHW, shifts_2B, reach, black_C11)

    def _chance(self, purpose: str, epoch: int, step: int) -> np.random.Generator:
        return np.random.default_rng(stream_seed(self.training.seed, f"teacher {purpose}", epoch, step))


def _crop(images_BCHW: Tensor, shifts_2B: Tensor, reach: int, black_C11: Tensor) -> Tensor:
    """Each image moved by its own two shifts, which run from 0 to twice the reach; black moves in."""
    count, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    padded_BCHW = F.pad(images_BCHW - black_C11, (reach,) * 4) + black_C11
    rows_BH = shifts_2B[0, :, None] + torch.arange(height, device=device)
    columns_BW = shifts_2B[1, :, None] + torch.arange(width, device=device)
    images_B = torch.arange(count, device=device)[:, None, None]
    return (
        padded_BCHW[images_B, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2).contiguous()
    )
