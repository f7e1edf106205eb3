"""Teachers: trained once or given, kept in a folder of their own, and loaded for every trial."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from cpsc_core.card import TeacherCard, TeacherFolder, teacher_key, write_card
from cpsc_core.data.labelled import LabelledImages, PlacedData
from cpsc_core.distill.draws import seeded
from cpsc_core.errors import DivergedError, TeacherError
from cpsc_core.evaluate import accuracy
from cpsc_core.images import ImageSpec
from cpsc_core.probe import confident_share, save_probe
from cpsc_core.process import using_threads, versions
from cpsc_core.seeds import stream_seed
from cpsc_core.settings import DataSettings, TeacherSettings, TeacherTraining
from cpsc_core.weights import (
    build_network,
    fill_network,
    parse_tensors,
    read_checkpoint,
    read_file,
    save_tensors,
)

__all__ = [
    "TeacherReport",
    "held_out_accuracy",
    "import_checkpoint",
    "keep_teacher",
    "load_teacher",
    "train_teacher",
]

CROP_SHARE = 8
"""Random crops move an image by up to one part in so many of its size."""


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


def train_teacher(
    arch: str,
    data: DataSettings,
    training: TeacherTraining,
    *,
    threads: int,
    device: str = "cpu",
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[TeacherReport]:
    """Train a teacher on the training split, yielding after every epoch; the last report has the result.

    The same settings and threads give the same weights on a CPU, to the bit. Raises DivergedError when the
    loss stops being finite.
    """
    with using_threads(threads):
        placed = PlacedData.of(data)
        with seeded(training.seed, "teacher"):
            network = build_network(arch, placed.spec).to(device)
        batches = _Batches(placed.load("train").to(device), training, placed.spec, placed.data_set.flips)
        optimiser = SGD(
            network.parameters(),
            lr=training.lr,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.momentum > 0,
        )
        for epoch in range(training.epochs):
            loss = _train_epoch(network, optimiser, batches, epoch, on_step)
            splits = ("val", "test") if epoch + 1 == training.epochs else ("val",)
            figures = held_out_accuracy(network, data, splits, on_step)
            yield TeacherReport(epoch=epoch + 1, train_loss=loss, accuracy=figures, network=network)


def held_out_accuracy(
    network: nn.Module,
    data: DataSettings,
    splits: tuple[str, ...] = ("val", "test"),
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Top-1 accuracy of a network by split, on the device it lies on."""
    placed, device = PlacedData.of(data), str(next(network.parameters()).device)
    return {split: accuracy(network, placed.load(split).to(device), on_step) for split in splits}


def keep_teacher(
    folder: Path,
    network: nn.Module,
    probe: LabelledImages,
    *,
    arch: str,
    data: DataSettings,
    accuracy: Mapping[str, float],
    origin: TeacherTraining | Path,
) -> TeacherCard:
    """Write a teacher's folder and return its card, which is written last.

    `accuracy` has val and test. `origin` is how it was trained, or the file its weights were given in.
    """
    placed, files = PlacedData.of(data), TeacherFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = placed.fingerprint()
    save_probe(files.probe, probe)
    card = TeacherCard(
        key=teacher_key(arch, fingerprint, origin),
        arch=arch,
        num_classes=placed.spec.num_classes,
        sha256=save_tensors(files.weights, network.state_dict()),
        accuracy=accuracy["val"],
        test_accuracy=accuracy["test"],
        data=data.name,
        data_fingerprint=fingerprint,
        mean=placed.spec.mean,
        std=placed.spec.std,
        training=dataclasses.asdict(origin) if isinstance(origin, TeacherTraining) else None,
        probe_share=confident_share(network, probe),
        versions=versions(),
    )
    write_card(folder, card)
    return card


def load_teacher(settings: TeacherSettings, spec: ImageSpec) -> nn.Module:
    """The teacher of a trial on the CPU: frozen, in evaluation mode.

    Raises TeacherError if the file is missing, has another digest or holds another network, or if the teacher
    was trained on images normalised in another way.
    """
    _check_normalisation(settings, spec)
    path = Path(settings.weights)
    content = read_file(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != settings.sha256:
        raise TeacherError(
            f"{path} is not the teacher the trial was made for: its digest is {digest[:12]}, "
            f"but should be {settings.sha256[:12]}; restore the file, or make a new experiment with this one"
        )
    return _filled(settings.arch, spec, parse_tensors(content, path), path).requires_grad_(False)


def import_checkpoint(path: Path, arch: str, spec: ImageSpec) -> nn.Module:
    """A teacher from a file that somebody else made, see `weights.read_checkpoint`; in evaluation mode.

    Raises TeacherError naming file, tensor, expected and found shape if it does not fit.
    """
    return _filled(arch, spec, read_checkpoint(path), path)


def _filled(arch: str, spec: ImageSpec, tensors: Mapping[str, Tensor], source: Path) -> nn.Module:
    with seeded(0, "filled"):  # the weights it is born with are thrown away, and draw on nobody's stream
        network = build_network(arch, spec)
    fill_network(network, tensors, source=source, arch=arch)
    return network.eval()


def _check_normalisation(settings: TeacherSettings, spec: ImageSpec) -> None:
    known = {"mean": (settings.mean, spec.mean), "deviation": (settings.std, spec.std)}
    for name, (trained, given) in known.items():
        if trained is not None and trained != given:
            raise TeacherError(
                f"the teacher {settings.weights} was trained on images normalised with {name} "
                f"{_listed(trained)}, but those of the data set are normalised with {_listed(given)}; give "
                "the data set the teacher's normalisation, or train a teacher on the data set as it is"
            )


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(map(str, numbers))


@dataclass(frozen=True, slots=True)
class _Batches:
    """The training images in batches, as a function of the epoch."""

    images: LabelledImages
    training: TeacherTraining
    spec: ImageSpec
    flips: bool

    @property
    def per_epoch(self) -> int:
        """Whole batches; what is left over waits for another epoch's order."""
        return max(1, len(self.images) // self.training.batch_size)

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate: half a cosine from its peak to zero."""
        share = (epoch * self.per_epoch + step) / (self.training.epochs * self.per_epoch)
        return self.training.lr * (1 + math.cos(math.pi * share)) / 2

    def of_epoch(self, epoch: int) -> Iterator[LabelledImages]:
        """Every batch of an epoch, augmented."""
        order = self._chance("order", epoch, 0).permutation(len(self.images))
        for step in range(self.per_epoch):
            rows = torch.from_numpy(order[step * self.training.batch_size :][: self.training.batch_size])
            rows = rows.to(self.images.labels_B.device)
            images_BCHW = self.images.images_BCHW[rows]
            if self.training.augment:
                images_BCHW = self._augment(images_BCHW, self._chance("augment", epoch, step))
            yield LabelledImages(images_BCHW, self.images.labels_B[rows])

    def _augment(self, images_BCHW: Tensor, chance: np.random.Generator) -> Tensor:
        device, count = images_BCHW.device, len(images_BCHW)
        reach = self.spec.size // CROP_SHARE
        shifts_2B = torch.from_numpy(chance.integers(0, 2 * reach + 1, (2, count))).to(device)
        if self.flips:
            flip_B = torch.from_numpy(chance.integers(2, size=count) == 1).to(device)
            images_BCHW = torch.where(flip_B.view(-1, 1, 1, 1), images_BCHW.flip(3), images_BCHW)
        black_C11 = torch.tensor(self.spec.level(0.0), device=device).view(-1, 1, 1)
        return _crop(images_BCHW, shifts_2B, reach, black_C11)

    def _chance(self, purpose: str, epoch: int, step: int) -> np.random.Generator:
        return np.random.default_rng(stream_seed(self.training.seed, f"teacher {purpose}", epoch, step))


def _crop(images_BCHW: Tensor, shifts_2B: Tensor, reach: int, black_C11: Tensor) -> Tensor:
    """Each image moved by its own two shifts, which run from 0 to twice the reach; black moves in."""
    count, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    padded_BCHW = F.pad(images_BCHW - black_C11, (reach,) * 4) + black_C11
    rows_BH = shifts_2B[0, :, None] + torch.arange(height, device=device)
    columns_BW = shifts_2B[1, :, None] + torch.arange(width, device=device)
    images_B = torch.arange(count, device=device)[:, None, None]
    return (
        padded_BCHW[images_B, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2).contiguous()
    )


def _train_epoch(
    network: nn.Module, optimiser: SGD, batches: _Batches, epoch: int, on_step: Callable[[], None]
) -> float:
    network.train()
    total = torch.zeros((), dtype=torch.float64)
    for step, batch in enumerate(batches.of_epoch(epoch)):
        optimiser.param_groups[0]["lr"] = batches.rate(epoch, step)
        logits_BC = network(batch.images_BCHW).logits_BC
        smoothing = batches.training.label_smoothing
        loss: Tensor = F.cross_entropy(logits_BC, batch.labels_B, label_smoothing=smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total = total.to(loss.device) + loss.detach().double()
        on_step()
    if not total.isfinite():
        raise DivergedError("the teacher's loss", epoch + 1)
    return float(total) / batches.per_epoch
