"""What a network must know about the images it is shown."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImageSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Shape and normalisation of a data set's images."""

    num_classes: int
    """Classes; labels run from 0 to one less."""
    channels: int
    """1 or 3."""
    size: int
    """Height and width in pixels."""
    mean: tuple[float, ...]
    """Per-channel mean that was subtracted, of pixels in 0 to 1."""
    std: tuple[float, ...]
    """Per-channel deviation that was divided by."""

    def level(self, brightness: float) -> tuple[float, ...]:
        """A brightness from 0 (black) to 1 in normalised space, per channel."""
        return tuple((brightness - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
