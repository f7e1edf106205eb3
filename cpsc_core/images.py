"""What a network must know about the images it is shown."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImageSpec", "fitting"]

_SIZE = 64


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


def fitting(count: int, size: int) -> int:
    """How many images of a size a network is shown at once where it can be shown `count` of up to 64 px.

    Fewer of larger ones, so that they take no more memory; one at least.
    """
    return max(1, min(count, count * _SIZE**2 // size**2))
