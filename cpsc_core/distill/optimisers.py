"""How each player descends."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from cpsc_core.settings import TrainSettings

__all__ = ["build_optimisers"]

ADAM_BETAS = (0.5, 0.999)


def build_optimisers(
    settings: TrainSettings, *, generator: nn.Module, student: nn.Module, adapter: nn.Module
) -> dict[str, Optimizer]:
    """Adam for the generator, SGD with momentum for the student and for an adapter that learns."""
    learned = [
        each for each in itertools.chain(student.parameters(), adapter.parameters()) if each.requires_grad
    ]
    adam = Adam(generator.parameters(), lr=settings.generator.lr, betas=ADAM_BETAS, fused=True)
    sgd = SGD(
        learned,
        lr=settings.student.lr,
        momentum=settings.student.momentum,
        weight_decay=settings.student.weight_decay,
        fused=True,
    )
    if settings.precision == "fp16":
        # A first step that overflows is left out, but the fused kernel would have made buffers unfilled.
        for weight in learned:
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return {"generator": adam, "student": sgd}
