"""Trials that cost next to nothing: a method that trains nothing, a network of one layer, and three images.

They come in as anybody's do, by entry points of an installed package, which `controller_scale.py` makes of
this module. Run as a program it writes a teacher to a file and prints what a trial must know of it, as JSON.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cpsc_core.data.labelled import LabelledImages
from cpsc_core.distill.trainer import EpochReport, Evaluate, Trainer
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Network, Output
from cpsc_core.weights import build_network, save_tensors

__all__ = ["DOTS", "Dot", "Still"]


class Still(Trainer):
    """Reports a learning curve, a function of the settings alone, and trains nothing."""

    def fit(self, evaluate: Evaluate) -> Iterator[EpochReport]:
        """One report per epoch, at once."""
        quality = 1.0 / (1.0 + abs(math.log(self.settings.loss.ikd / 3.0))) + self.settings.student.lr
        while self.epoch < self.settings.epochs and not self.should_stop():
            self.epoch += 1
            self.on_step()
            metrics = {
                "val_accuracy": quality * self.epoch / (self.epoch + 1.0),
                "student_loss": 1.0 / self.epoch,
            }
            yield EpochReport(epoch=self.epoch, metrics=metrics, final=self.epoch == self.settings.epochs)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Three grey images."""
        return torch.zeros(3, 1, 16, 16), torch.arange(3)


class Dot(Network):
    """The mean of an image, and one layer."""

    def __init__(self, *, num_classes: int, channels: int, size: int) -> None:
        super().__init__(feature_dim=channels, size=size)
        self.norm = nn.BatchNorm2d(channels)
        self.decide = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Output:
        """Its answer to a batch."""
        features_BD = self.norm(x_BCHW).mean((2, 3))
        return Output(self.decide(features_BD), features_BD)


class _Dots:
    """Three images of one colour each."""

    spec = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.0,), std=(1.0,))
    class_names = ("dark", "grey", "bright")
    flips = False

    def fingerprint(self, root: Path | None) -> str:
        return "dots 1"

    def rows(self, split: str, root: Path | None) -> list[int]:
        return [0, 1, 2]

    def load(self, split: str, root: Path | None) -> LabelledImages:
        labels_B = torch.arange(3)
        return LabelledImages(labels_B.float()[:, None, None, None].expand(3, 1, 16, 16).clone(), labels_B)


DOTS = _Dots()


if __name__ == "__main__":
    torch.manual_seed(0)
    teacher = Path(sys.argv[1])
    digest = save_tensors(teacher, build_network("dot", DOTS.spec).state_dict())
    print(json.dumps({"arch": "dot", "weights": str(teacher), "sha256": digest, "accuracy": 0.9}))
