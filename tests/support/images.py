"""Small data sets on disk, in the formats that people have, of images that a network can tell apart."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

__all__ = ["encoded", "pictures", "write_folder", "write_parquet", "write_tiny_imagenet"]


def pictures(count: int, size: int, channels: int = 3, classes: int = 10, seed: int = 0) -> Any:
    """Images uint8 (B, H, W, C) whose mean brightness rises with their class, and their labels."""
    chance = np.random.default_rng(seed)
    labels_B = np.arange(count) % classes
    noise_BHWC = chance.integers(0, 30, (count, size, size, channels))
    base_B = labels_B * (220 // max(1, classes - 1))
    return (noise_BHWC + base_B[:, None, None, None]).astype(np.uint8), labels_B


def encoded(pixels_HWC: Any, kind: str = "PNG") -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(
    path: Path,
    pixels_BHWC: Any,
    labels_B: Any,
    *,
    image: str = "image",
    label: str = "label",
    nested: bool = True,
    names: Sequence[str] | None = None,
    rows_per_group: int = 7,
) -> None:
    """One file in the schema of the Hugging Face library."""
    content = [encoded(each) for each in pixels_BHWC]
    images = (
        [{"bytes": each, "path": f"{row}.png"} for row, each in enumerate(content)] if nested else content
    )
    table = pa.table({image: images, label: pa.array([int(each) for each in labels_B], pa.int64())})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_per_group)


def write_folder(root: Path, part: str, pixels_BHWC: Any, labels_B: Any, names: Sequence[str]) -> None:
    """One folder for each class."""
    for row, (pixels_HWC, label) in enumerate(zip(pixels_BHWC, labels_B, strict=True)):
        path = root / part / names[label] / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels_HWC))


def write_tiny_imagenet(path: Path, numbers: Sequence[str], *, train: int = 1, val: int = 400) -> None:
    """An archive in the layout of tiny-imagenet-200.zip: images of each class, and so many to validate."""
    top = "tiny-imagenet-200"
    pixels_BHWC, _ = pictures(len(numbers), 64, classes=len(numbers))
    files = [encoded(each, "JPEG") for each in pixels_BHWC]
    with zipfile.ZipFile(path, "w") as archive:
        lines = []
        for label, number in enumerate(numbers):
            for index in range(train):
                archive.writestr(f"{top}/train/{number}/images/{number}_{index}.JPEG", files[label])
            archive.writestr(f"{top}/train/{number}/{number}_boxes.txt", "")
        for index in range(val):
            label = (index * 7) % len(numbers)
            archive.writestr(f"{top}/val/images/val_{index}.JPEG", files[label])
            lines.append(f"val_{index}.JPEG\t{numbers[label]}\t0\t0\t62\t62\n")
        archive.writestr(f"{top}/val/val_annotations.txt", "".join(lines))
        archive.writestr(f"{top}/test/images/test_0.JPEG", files[0])
        archive.writestr(f"{top}/wnids.txt", "\n".join(numbers))
