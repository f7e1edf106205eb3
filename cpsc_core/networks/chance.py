"""Layers that draw at random: dropout of units and of whole paths."""

from __future__ import annotations

from typing import Any

from torch.nn.modules.dropout import _DropoutNd

__all__ = ["switch_off_chance"]

_DROPS_PATHS = "StochasticDepth"
"""What torchvision calls it, which need not be loaded for this."""
_SHARES = ("drop_prob", "drop_rate", "dropout")
"""What timm calls the share that is dropped, and torch's attention and recurrent layers."""


def switch_off_chance(layer: Any) -> None:
    """Let a layer drop nothing. What a network draws in its own `forward` is not seen."""
    if isinstance(layer, _DropoutNd) or type(layer).__name__ == _DROPS_PATHS:
        layer.p = 0.0
    for share in _SHARES:
        if isinstance(getattr(layer, share, None), float):
            setattr(layer, share, 0.0)
