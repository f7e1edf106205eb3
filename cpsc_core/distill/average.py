"""A network whose weights are the running average of another's."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["follow"]


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, *, keep: float) -> None:
    """Move an average towards the weights of a network of the same kind; it keeps a share of its own.

    What the layers remember, such as batch statistics, is taken over as it is.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)
