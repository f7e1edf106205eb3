"""How pixels become network inputs: the mean that is subtracted and the deviation that is divided by."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from cpsc_core.errors import SettingsError

__all__ = ["NORMALIZATIONS", "Normalization", "normalization"]

_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class Normalization:
    """Statistics of pixels from 0 to 1, one number per channel."""

    mean: tuple[float, ...]
    """What is subtracted."""
    std: tuple[float, ...]
    """What is divided by then."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in _CHANNELS:
            raise SettingsError(
                f"data.normalization has as many means as deviations, 1 for grey images or 3 for colour, but "
                f"these are {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise SettingsError(f"data.normalization divides by {min(self.std)}; deviations are above 0")


NORMALIZATIONS: Mapping[str, Normalization] = {
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "fashion_mnist": Normalization((0.2860,), (0.3530,)),
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "minus_one_to_one": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "mnist": Normalization((0.1307,), (0.3081,)),
    "svhn": Normalization((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "zero_to_one": Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""By the name an experiment file may use."""


def normalization(name: str) -> Normalization:
    """The normalisation of a name; SettingsError lists them and the nearest."""
    if name not in NORMALIZATIONS:
        near = difflib.get_close_matches(name, NORMALIZATIONS, n=1, cutoff=0.0)
        raise SettingsError(
            f"data.normalization must be one of {', '.join(NORMALIZATIONS)}, or {{mean: [...], std: [...]}}, "
            f"but is {name!r}; nearest: {near[0]}"
        )
    return NORMALIZATIONS[name]
