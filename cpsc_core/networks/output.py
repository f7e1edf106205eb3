"""What every network returns, and what it must say about itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from cpsc_core.errors import SettingsError

__all__ = ["Network", "Output", "check_size"]

SMALLEST_SIZE = 16


class Output(NamedTuple):
    """One forward pass: B = batch, C = classes, D = feature width."""

    logits_BC: Tensor
    """Unscaled class scores."""
    features_BD: Tensor
    """What the classifier layer sees: penultimate activations, not normalised."""


class Network(nn.Module):
    """A classifier of square images, at least 16 pixels wide, that returns an `Output`."""

    feature_dim: int
    """Width of the features it returns."""

    def __init__(self, *, feature_dim: int, size: int) -> None:
        super().__init__()
        check_size(type(self).__name__, size)
        self.feature_dim = feature_dim


def check_size(arch: str, size: int) -> None:
    """Raise SettingsError if images are smaller than any network here can take."""
    if size < SMALLEST_SIZE:
        raise SettingsError(
            f"{arch} needs images of at least {SMALLEST_SIZE} pixels, but they have {size}; enlarge them"
        )
