"""Chance as a function: each draw depends on (seed, purpose, epoch, step) and on nothing that ran before.

So a run that was stopped goes on with the draws it would have had, and no stream is saved. Draws are made on
the CPU by numpy, whose normal numbers do not depend on the instruction set of the processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["Draws", "LatentDraws", "Latents", "class_ordered_latents", "seeded", "stream_seed"]


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

    def __call__(self, purpose: str, epoch: int, step: int) -> Latents:
        """The same batch whenever it is asked for."""
        chance = np.random.default_rng(stream_seed(self.seed, purpose, epoch, step))
        latents_BZ = chance.standard_normal((self.batch_size, self.latent_dim), dtype=np.float32)
        labels_B = chance.integers(self.num_classes, size=self.batch_size)
        return Latents(torch.from_numpy(latents_BZ), torch.from_numpy(labels_B))


def class_ordered_latents(count: int, *, seed: int, latent_dim: int, num_classes: int) -> Latents:
    """A fixed batch in the order of the classes, each of them as often as the next, give or take one."""
    chance = np.random.default_rng(stream_seed(seed, "samples", 0, 0))
    latents_BZ = chance.standard_normal((count, latent_dim), dtype=np.float32)
    return Latents(torch.from_numpy(latents_BZ), torch.arange(count) * num_classes // count)


def stream_seed(seed: int, purpose: str, epoch: int, step: int) -> int:
    """A reproducible stream for one purpose at one step, the same on every rank; it fits 56 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}/{step}".encode()).digest()[:7])


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Inside the block, torch's global stream, which initialises weights, depends on (seed, purpose) only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, purpose, 0, 0))
        yield
