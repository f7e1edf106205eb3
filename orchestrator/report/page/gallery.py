"""A trial's sample grids over time, small enough to be part of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Frame", "frames"]

_FRAMES = 24
_WIDEST = 640
_TALLER_THAN_WIDE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One grid."""

    epoch: int
    """Epoch it was drawn after."""
    url: str
    """The picture itself, as a data URL."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


def frames(samples: Mapping[int, Path], room_bytes: int) -> list[Frame]:
    """Up to 24 grids evenly over the epochs, the last included, together `room_bytes` at most.

    A grid of many classes is cut off below its first rows, and one that is wide is made smaller. A file that
    is no picture is left out.
    """
    epochs = sorted(samples)
    count = min(_FRAMES, len(epochs))
    chosen = [epochs[-1 - index * len(epochs) // count] for index in range(count)][::-1]
    found = [frame for epoch in chosen if (frame := _frame(epoch, samples[epoch])) is not None]
    while sum(len(frame.url) for frame in found) > room_bytes:
        found = found[::-2][::-1] if len(found) > 1 else []
    return found


def _frame(epoch: int, path: Path) -> Frame | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            small = picture.crop((0, 0, picture.width, min(picture.height, _tallest(picture.width))))
    except (OSError, SyntaxError):
        return None
    if small.width > _WIDEST:
        small = small.resize((_WIDEST, round(small.height * _WIDEST / small.width)))
    content = io.BytesIO()
    small.save(content, "WEBP", quality=80)
    text = base64.b64encode(content.getvalue()).decode()
    return Frame(epoch=epoch, url=f"data:image/webp;base64,{text}", width=small.width, height=small.height)


def _tallest(width: int) -> int:
    return round(width * _TALLER_THAN_WIDE)
