"""A sweep with a student, a generator and a teacher that can really be loaded; none of them is any good."""

from __future__ import annotations

from pathlib import Path

import torch

from cpsc_core.attempt import append_line, write_json
from cpsc_core.data.digits import DIGITS
from cpsc_core.distill.generator import Generator
from cpsc_core.settings import DataSettings, GeneratorSettings, TeacherSettings, TrainSettings, TrialSettings
from cpsc_core.weights import build_network, save_tensors
from orchestrator.config import parse_experiment
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import Result, Stage, TrialRecord, TrialState
from tests.support.command import EXPERIMENT

__all__ = ["sweep_with_student", "trial_settings"]


def trial_settings(folder: Path) -> TrialSettings:
    """Settings of a trial whose teacher is written into a folder, its weights drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    teacher = build_network("resnet8", DIGITS.spec)
    digest = save_tensors(folder / "teacher.safetensors", teacher.state_dict())
    return TrialSettings(
        data=DataSettings(name="digits"),
        data_fingerprint="f",
        teacher=TeacherSettings(
            arch="resnet8", weights=str(folder / "teacher.safetensors"), sha256=digest, accuracy=0.97
        ),
        student_arch="resnet8",
        train=TrainSettings(epochs=1, batch_size=32, generator=GeneratorSettings(width=8, latent_dim=4)),
    )


def sweep_with_student(storage: Path) -> SweepPaths:
    """A finished sweep with one complete trial, number 0."""
    paths = StoragePaths(storage).sweep("digits")
    settings = trial_settings(storage / "teachers" / "t")
    trial = paths.trial(settings.identity())
    attempt = trial.attempt(1)
    attempt.root.mkdir(parents=True)
    paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    teacher = {"arch": "resnet8", "sha256": settings.teacher.sha256, "accuracy": 0.97, "test_accuracy": 0.96}
    objective = {"metric": "val_accuracy", "direction": "maximize", "of": "last"}
    manifest = {"sweep": "digits", "created": 1_700_000_000.0, "teacher": teacher, "objective": objective}
    write_json(
        paths.manifest, manifest | {"data": {"name": "digits", "fingerprint": "f"}, "finished": "complete"}
    )
    params = {"loss.ikd": settings.train.loss.ikd}
    record = TrialRecord(
        name=settings.identity(),
        number=0,
        stage=Stage.SEARCH,
        params=params,
        distributions={},
        system_attrs={},
        settings=settings.to_dict(),
        created=1_700_000_001.0,
        generation=1,
    )
    write_json(trial.record, record.to_dict())
    append_line(attempt.metrics, {"epoch": 1, "seconds": 1.0, "val_accuracy": 0.5, "final": True})
    torch.manual_seed(2)
    save_tensors(attempt.student, build_network("resnet8", DIGITS.spec).state_dict())
    save_tensors(attempt.generator, Generator(settings.train.generator, DIGITS.spec).state_dict())
    result = Result(
        state=TrialState.COMPLETE,
        objective=0.5,
        params=params,
        metrics={"epoch": 1, "val_accuracy": 0.5},
        timing={"seconds": 1.0, "ended": 1_700_000_009.0},
        cause=None,
        detail=None,
        attempt=1,
        generation=1,
    )
    write_json(trial.result, result.to_dict())
    return paths
