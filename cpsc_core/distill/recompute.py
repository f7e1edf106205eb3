"""Less memory for more time: what a block computed is thrown away, and computed again for its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cpsc_core.distill.batch_norm import remembering_aside

__all__ = ["recompute_blocks"]


def recompute_blocks(network: nn.Module) -> None:
    """Let a network keep only what enters each of its blocks; results and gradients stay equal to the bit.

    A block is an element of a sequence, as the residual blocks of a stage are, or the whole network if there
    are none. Batch norm remembers each batch once.
    """
    for block in list(_blocks(network)) or [network]:
        block.forward = partial(_recomputed, block, block.forward)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost elements of sequences that are more than a single layer."""
    for child in network.children():
        if isinstance(network, nn.Sequential) and any(child.children()):
            yield child
        else:
            yield from _blocks(child)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), remembering_aside(block)),
        **options,
    )
