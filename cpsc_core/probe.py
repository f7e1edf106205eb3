"""Probe images: what a teacher believes its classes look like, made from the teacher alone.

Pixels are optimised until the teacher sees the intended class in images with the statistics it remembers from
its training (DeepInversion, Yin et al. 2020). No real image is used, so agreement on them can steer a search
that must be data-free; a trial's own images could not, since a collapsed generator would be rewarded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.data.labelled import LabelledImages
from cpsc_core.distill.batch_norm import WatchedNetwork, batch_norm_layers, distance_from_memory
from cpsc_core.errors import TeacherError
from cpsc_core.evaluate import evaluating
from cpsc_core.images import ImageSpec, fitting
from cpsc_core.seeds import stream_seed
from cpsc_core.weights import parse_tensors, read_file, save_tensors

__all__ = ["confident_share", "load_probe", "make_probe", "save_probe"]

BATCH_SIZE = 200
"""Images whose statistics are matched together, of up to 64 px."""
STEPS = 100
"""Updates of every image."""
RATE = 0.1
"""Learning rate of Adam, in deviations of the data."""
BATCH_NORM_PULL = 0.3
"""Pull of the statistics, where the class pulls with 1: with less other networks see noise, with more the
teacher itself is no longer sure of the class."""
CONFIDENCE = 0.9
"""Probability from which on an image counts as a clear picture of its class."""


def make_probe(
    teacher: nn.Module, spec: ImageSpec, *, count: int = 200, on_step: Callable[[], None] = lambda: None
) -> LabelledImages:
    """About `count` images, as many of each class and at least two, on the teacher's device.

    The same teacher always gives the same images.
    """
    per_class = max(2, round(count / spec.num_classes))
    labels_B = torch.arange(per_class * spec.num_classes) % spec.num_classes
    device = next(teacher.parameters()).device
    together = torch.split(labels_B.to(device), fitting(BATCH_SIZE, spec.size))
    with evaluating(teacher):
        pictures = [_picture(teacher, spec, some_B, batch, on_step) for batch, some_B in enumerate(together)]
    return LabelledImages(torch.cat(pictures), labels_B.to(device))


def confident_share(teacher: nn.Module, probe: LabelledImages) -> float:
    """Share of the probe images whose intended class the teacher gives a probability of 0.9 or more."""
    with evaluating(teacher), torch.no_grad():
        chances_BC = torch.cat(
            [teacher(each.images_BCHW).logits_BC for each in probe.batches(BATCH_SIZE)]
        ).softmax(1)
    intended_B = chances_BC.gather(1, probe.labels_B[:, None])
    return int((intended_B >= CONFIDENCE).sum()) / len(probe)


def save_probe(path: Path, probe: LabelledImages) -> None:
    """Write probe images, whole or not at all."""
    save_tensors(path, {"images": probe.images_BCHW, "labels": probe.labels_B})


def load_probe(path: Path, spec: ImageSpec) -> LabelledImages:
    """Probe images that were saved, on the CPU; TeacherError if they are missing or of another shape."""
    tensors = parse_tensors(read_file(path), path)
    shape = (spec.channels, spec.size, spec.size)
    if tensors.keys() != {"images", "labels"} or tensors["images"].shape[1:] != shape:
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise TeacherError(f"{path} should hold labels and images of shape {shape}, but holds {found}")
    return LabelledImages(tensors["images"], tensors["labels"])


def _picture(
    teacher: nn.Module, spec: ImageSpec, labels_B: Tensor, batch: int, on_step: Callable[[], None]
) -> Tensor:
    """One batch of images: noise, moved to where the teacher sees the labels."""
    low_C11, high_C11 = (
        torch.tensor(spec.level(brightness), device=labels_B.device).view(-1, 1, 1)
        for brightness in (0.0, 1.0)
    )
    chance = np.random.default_rng(stream_seed(0, "probe", 0, batch))
    shape = (len(labels_B), spec.channels, spec.size, spec.size)
    noise_BCHW = torch.from_numpy(chance.standard_normal(shape, dtype=np.float32)).to(labels_B.device)
    images_BCHW = noise_BCHW.requires_grad_()
    optimiser = torch.optim.Adam([images_BCHW], lr=RATE)
    watched = WatchedNetwork(teacher) if batch_norm_layers(teacher) else None
    for _ in range(STEPS):
        loss = _complaint(watched or teacher, images_BCHW, labels_B)
        (images_BCHW.grad,) = torch.autograd.grad(loss, images_BCHW)
        optimiser.step()
        with torch.no_grad():
            images_BCHW.copy_(images_BCHW.clamp(low_C11, high_C11))
        on_step()
    return images_BCHW.detach()


def _complaint(teacher: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """What the teacher has against some images; it has no opinion on statistics unless it is watched."""
    if not isinstance(teacher, WatchedNetwork):
        return F.cross_entropy(teacher(images_BCHW).logits_BC, labels_B)
    output, seen = teacher(images_BCHW)
    return F.cross_entropy(output.logits_BC, labels_B) + BATCH_NORM_PULL * distance_from_memory(seen)
