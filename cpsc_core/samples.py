"""Grids of synthetic images, a row per class."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cpsc_core.attempt import replacing
from cpsc_core.images import ImageSpec

__all__ = ["draw_grid", "pixels", "write_grid"]

GAP = 2
"""Pixels between two images."""
MAX_COLUMNS = 16
"""Images of one class that are shown."""
READABLE_SIZE = 48
"""Smaller images are enlarged to about this many pixels, three times at most."""


def write_grid(path: Path, images_BCHW: Tensor, labels_B: Tensor, spec: ImageSpec) -> None:
    """Write a PNG with the images of each class in a row, classes from top to bottom, whole or not at all.

    Images are in normalised space; the data set's own statistics turn them back into pixels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    grid_HWC = draw_grid(pixels(images_BCHW, spec), labels_B, spec.num_classes)
    scale = max(1, min(3, READABLE_SIZE // spec.size))
    large_HWC = grid_HWC.repeat_interleave(scale, dim=0).repeat_interleave(scale, dim=1)
    picture = Image.fromarray(large_HWC.squeeze(-1).numpy())
    with replacing(path) as draft:
        picture.save(draft, format="PNG")


def pixels(images_BCHW: Tensor, spec: ImageSpec) -> Tensor:
    """Bytes from 0 to 255 on the CPU, of images in normalised space; what lies outside is clipped."""
    std_C11 = torch.tensor(spec.std).view(-1, 1, 1)
    mean_C11 = torch.tensor(spec.mean).view(-1, 1, 1)
    bright_BCHW = images_BCHW.detach().float().cpu() * std_C11 + mean_C11
    return (bright_BCHW.clamp(0, 1) * 255).round().to(torch.uint8)


def draw_grid(pixels_BCHW: Tensor, labels_B: Tensor, num_classes: int) -> Tensor:
    """The grid (H, W, C) in bytes: white between images, black where a class has fewer than the others."""
    labels = labels_B.tolist()
    rows = [
        [at for at, label in enumerate(labels) if label == row][:MAX_COLUMNS] for row in range(num_classes)
    ]
    columns = max(1, *(len(row) for row in rows))
    _, channels, height, width = pixels_BCHW.shape
    grid_HWC = torch.full(
        (num_classes * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, dtype=torch.uint8
    )
    for top, row in enumerate(rows):
        for left in range(columns):
            cell = torch.zeros(channels, height, width) if left >= len(row) else pixels_BCHW[row[left]]
            y, x = top * (height + GAP), left * (width + GAP)
            grid_HWC[y : y + height, x : x + width] = cell.permute(1, 2, 0)
    return grid_HWC
