"""Chance as a function: each draw depends on (seed, purpose, epoch, step) and on nothing that ran before.

So a run that was stopped goes on with the draws it would have had, and no stream is saved. Draws are made on
the CPU by numpy, whose normal numbers do not depend on the instruction set of the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from cpsc_core.seeds import stream_seed
from cpsc_core.settings import TrainSettings

__all__ = ["Draws", "LatentDraws", "Latents", "seeded"]


class Latents(NamedTuple):
    """What one batch of images is made from: B = batch, Z = latent width."""

    latents_BZ: Tensor
    """Standard normal noise."""
    labels_B: Tensor
    """The class each image shall have."""


class Draws(Protocol):
    """Where the trainer gets its noise and labels."""

    def __call__(self, purpose: str, epoch: int, step: int) -> Latents:
        """The batch for a purpose ("generator", "student") at a step of an epoch, both counted from 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentDraws:
    """Standard normal noise with labels that are uniform over the classes, on the CPU."""

    seed: int
    """Every batch is a function of it."""
    batch_size: int
    """Images per batch."""
    latent_dim: int
    """Length of each noise vector."""
    num_classes: int
    """Labels run from 0 to one less."""

    @classmethod
    def of(cls, settings: TrainSettings, num_classes: int) -> Self:
        """The draws of one distillation."""
        return cls(
            seed=settings.seed,
            batch_size=settings.batch_size,
            latent_dim=settings.generator.latent_dim,
            num_classes=num_classes,
        )

    def __call__(self, purpose: str, epoch: int, step: int) -> Latents:
        """The same batch whenever it is asked for."""
        chance = np.random.default_rng(stream_seed(self.seed, purpose, epoch, step))
        latents_BZ = chance.standard_normal((self.batch_size, self.latent_dim), dtype=np.float32)
        labels_B = chance.integers(self.num_classes, size=self.batch_size)
        return Latents(torch.from_numpy(latents_BZ), torch.from_numpy(labels_B))

    def ordered_by_class(self, count: int) -> Latents:
        """A fixed batch in the order of the classes, each of them as often as the next, give or take one."""
        chance = np.random.default_rng(stream_seed(self.seed, "samples"))
        latents_BZ = chance.standard_normal((count, self.latent_dim), dtype=np.float32)
        return Latents(torch.from_numpy(latents_BZ), torch.arange(count) * self.num_classes // count)


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Inside the block, torch's global stream, which initialises weights, depends on (seed, purpose) only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, purpose))
        yield
