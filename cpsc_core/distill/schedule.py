"""The student's learning rate as a function of how far the training is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from cpsc_core.settings import TrainSettings

__all__ = ["SCHEDULES", "cosine", "released"]


def cosine(settings: TrainSettings, epoch: int, iteration: int) -> float:
    """A straight rise to the peak, then half a cosine that reaches zero when the last epoch ends.

    Epochs and iterations count from 0. The rate changes with every iteration: short runs cool down too.
    """
    warmup = _warmup_epochs(settings)
    done = epoch + (iteration + 1) / settings.iterations_per_epoch
    if done < warmup:
        return settings.student.lr * done / warmup
    left = epoch + iteration / settings.iterations_per_epoch - warmup
    share = max(left, 0.0) / (settings.epochs - warmup)
    return settings.student.lr * (1 + math.cos(math.pi * share)) / 2


def released(settings: TrainSettings, epoch: int, iteration: int) -> float:
    """What the released code really uses, where two schedulers step one optimiser; constant within an epoch.

    Epochs count from 0. It rises to the peak, drops a little too far in the epoch after that, and never
    reaches zero. Without a warm-up there is only one scheduler: the cosine.
    """
    del iteration
    number, warmup, epochs = epoch + 1, _warmup_epochs(settings), settings.epochs
    if not warmup:
        return settings.student.lr * _half_cosine(epoch, epochs)
    if number <= warmup:
        return settings.student.lr * number / warmup
    if number == warmup + 1:
        ratio = _half_cosine(number, epochs) / _half_cosine(warmup, epochs)
        return settings.student.lr * ratio**2
    return settings.student.lr * _half_cosine(number - warmup, epochs)


SCHEDULES: Mapping[str, Callable[[TrainSettings, int, int], float]] = {
    "cosine": cosine,
    "released": released,
}


def _warmup_epochs(settings: TrainSettings) -> int:
    return min(settings.student.warmup_epochs, settings.epochs // 10)


def _half_cosine(epoch: int, epochs: int) -> float:
    return (1 + math.cos(math.pi * epoch / epochs)) / 2
