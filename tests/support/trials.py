"""Trials that take a fraction of a second, on an untrained teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cpsc_core.attempt import AttemptPaths, read_lines
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.probe import save_probe
from cpsc_core.settings import (
    DataSettings,
    GeneratorSettings,
    StudentSettings,
    TeacherSettings,
    TrainSettings,
    TrialSettings,
)
from cpsc_core.trial import run_trial
from cpsc_core.weights import build_network, save_tensors

__all__ = ["comparable", "digest", "finish", "tiny_teacher", "tiny_trial"]


def tiny_teacher(folder: Path) -> TeacherSettings:
    """An untrained ResNet-8 and probe images of noise, written to a folder."""
    chance = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("resnet8", DIGITS.spec)
    probe = LabelledImages(torch.randn(20, 1, 16, 16, generator=chance), torch.arange(20) % 10)
    save_probe(folder / "probe.safetensors", probe)
    weights = folder / "teacher.safetensors"
    return TeacherSettings(
        arch="resnet8",
        weights=str(weights),
        sha256=save_tensors(weights, network.state_dict()),
        probe=str(folder / "probe.safetensors"),
    )


def tiny_trial(teacher: TeacherSettings, **train: Any) -> TrialSettings:
    """A trial of two epochs of two iterations; `train` overrides its training settings."""
    settings = TrainSettings(
        epochs=2,
        iterations_per_epoch=2,
        batch_size=8,
        generator=GeneratorSettings(latent_dim=8, width=8, steps=1),
        student=StudentSettings(steps=1, lr=0.01),
    )
    return TrialSettings(
        data=DataSettings(name="digits"),
        data_fingerprint=DIGITS.fingerprint(),
        teacher=teacher,
        student_arch="resnet8",
        train=replace(settings, **train),
        splits=("val", "test"),
    )


def finish(settings: TrialSettings, folder: Path, attempt: int = 1) -> AttemptPaths:
    """Run a trial to its end; the attempt that finished it."""
    for _ in run_trial(settings, folder, attempt, threads=1):
        pass
    return AttemptPaths.of(folder, attempt)


def comparable(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metric lines without what depends on the clock."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def digest(attempt: AttemptPaths) -> tuple[list[dict[str, Any]], str, str]:
    """All that a finished trial must have to the bit: its lines, the student and the generator."""
    weights = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (attempt.student, attempt.generator))
    return (comparable(read_lines(attempt.metrics)), *weights)  # type: ignore[return-value]
