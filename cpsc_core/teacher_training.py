"""Teachers are trained here, the only place that real training images reach; a training can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from cpsc_core.attempt import AttemptPaths
from cpsc_core.augment import Batches
from cpsc_core.checkpoint import keep_newest, newest_valid, save_checkpoint
from cpsc_core.data.labelled import PlacedData
from cpsc_core.distill.draws import seeded
from cpsc_core.errors import DivergedError
from cpsc_core.evaluate import held_out_accuracy
from cpsc_core.process import using_threads
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.weights import build_network

__all__ = ["Keeping", "TeacherReport", "train_teacher"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherReport:
    """What one epoch of a teacher's training came to."""

    epoch: int
    """Its number, from 1."""
    train_loss: float
    """Mean cross-entropy over the epoch."""
    accuracy: Mapping[str, float]
    """Top-1 accuracy by split: val, and after the last epoch test as well."""
    network: nn.Module
    """The teacher as it is now; training goes on with the same object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where the state of a training is kept, so that it can be gone on with."""

    folder: Path
    """With the checkpoints of this training and nothing else."""
    key: str
    """The name of the teacher; checkpoints of another are not taken."""
    every_seconds: float = 60.0
    """How much work may be lost: a checkpoint is written after the epoch in which so much time has passed."""


def train_teacher(
    arch: str,
    data: DataSettings,
    training: TeacherTraining,
    *,
    threads: int,
    device: str = "cpu",
    keeping: Keeping | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[TeacherReport]:
    """Train a teacher on the training split, yielding after every epoch; the last report has the result.

    The same settings and threads give the same weights on a CPU, to the bit, however often the training was
    cut off: with `keeping` it goes on from the newest checkpoint, and epochs before it are not yielded again.
    Raises DivergedError when the loss stops being finite.
    """
    with using_threads(threads):
        placed = PlacedData.of(data)
        with seeded(training.seed, "teacher"):
            network = build_network(arch, placed.spec).to(device)
        batches = Batches(placed.load("train").to(device), training, placed.spec, placed.data_set.flips)
        optimiser = SGD(
            network.parameters(),
            lr=training.lr,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.momentum > 0,
        )
        notes = _Notes(keeping, network, optimiser)
        for epoch in range(notes.resume(), training.epochs):
            loss = _train_epoch(network, optimiser, batches, epoch, on_step)
            final = epoch + 1 == training.epochs
            splits = ("val", "test") if final else ("val",)
            figures = held_out_accuracy(network, placed, splits, on_step)
            notes.save_if_due(epoch + 1, final=final)
            yield TeacherReport(epoch=epoch + 1, train_loss=loss, accuracy=figures, network=network)


class _Notes:
    """The checkpoints of one training."""

    def __init__(self, keeping: Keeping | None, network: nn.Module, optimiser: SGD) -> None:
        self._keeping = keeping
        self._parts: dict[str, nn.Module | SGD] = {"network": network, "optimiser": optimiser}
        self._saved = time.monotonic()

    def resume(self) -> int:
        """Take network and optimiser to the newest checkpoint; how many epochs it has behind it."""
        found = self._keeping and newest_valid(self._keeping.folder, self._keeping.key)
        if not found:
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(found.state[name])
        return found.point.epoch

    def save_if_due(self, epoch: int, *, final: bool) -> None:
        """Write a checkpoint if much would be lost without; never of the last epoch, which is to be told."""
        if self._keeping is None or final or time.monotonic() - self._saved < self._keeping.every_seconds:
            return
        attempt = AttemptPaths.of(self._keeping.folder, 1)
        state = {name: part.state_dict() for name, part in self._parts.items()}
        if not attempt.checkpoint(epoch).exists():
            save_checkpoint(attempt.checkpoint(epoch), state, trial=self._keeping.key, attempt=1, epoch=epoch)
            keep_newest(attempt)
        self._saved = time.monotonic()


def _train_epoch(
    network: nn.Module, optimiser: SGD, batches: Batches, epoch: int, on_step: Callable[[], None]
) -> float:
    network.train()
    total = torch.zeros((), dtype=torch.float64)
    kind = next(network.parameters()).device.type
    for step, batch in enumerate(batches.of_epoch(epoch)):
        optimiser.param_groups[0]["lr"] = batches.rate(epoch, step)
        with torch.autocast(kind, torch.bfloat16, enabled=batches.training.precision == "bf16"):
            logits_BC = network(batch.images_BCHW).logits_BC
        smoothing = batches.training.label_smoothing
        loss: Tensor = F.cross_entropy(logits_BC.float(), batch.labels_B, label_smoothing=smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total = total.to(loss.device) + loss.detach().double()
        on_step()
    if not total.isfinite():
        raise DivergedError("the teacher's loss", epoch + 1)
    return float(total) / batches.per_epoch
