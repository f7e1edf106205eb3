"""A sweep folder as a long search leaves it, made in seconds: what the other benchmarks here look at."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from cpsc_core.settings import DataSettings, TeacherSettings, TrainSettings, TrialSettings, replace_path
from orchestrator.config import parse_experiment
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import Result, Stage, TrialRecord, TrialState

__all__ = ["make_sweep"]

_EXPERIMENT = """
name: {name}
data: {{name: digits}}
teacher: {{arch: resnet20}}
student: {{arch: resnet8}}
train: {{epochs: {epochs}}}
search:
  loss.ikd: {{low: 0.05, high: 5, log: true}}
  loss.batch_norm: {{low: 0.02, high: 2, log: true}}
  generator.latent_dim: {{choices: [32, 64, 128]}}
  generator.steps: {{low: 1, high: 4}}
budget: {{trials: {trials}}}
storage: {storage}
"""
_CREATED = 1_700_000_000.0


def make_sweep(
    storage: Path, *, trials: int, epochs: int, metrics: int = 16, name: str = "big"
) -> SweepPaths:
    """A finished sweep below `storage`; every tenth trial has two sample grids, a third of them is pruned."""
    paths = StoragePaths(storage).sweep(name)
    paths.trials.mkdir(parents=True)
    text = _EXPERIMENT.format(name=name, epochs=epochs, trials=trials, storage=storage)
    paths.experiment.write_text(parse_experiment(text).text)
    paths.manifest.write_text(json.dumps(_manifest(name, trials, epochs)))
    chance = random.Random(0)  # noqa: S311
    for number in range(trials):
        _make_trial(paths, number, epochs, metrics, chance)
    return paths


def _manifest(name: str, trials: int, epochs: int) -> dict[str, object]:
    teacher = {"key": "k", "arch": "resnet20", "sha256": "d" * 64, "accuracy": 0.97, "test_accuracy": 0.96}
    return {
        "sweep": name,
        "created": _CREATED,
        "git": {"commit": None, "dirty": None},
        "versions": {"torch": "2.14.1"},
        "config_sha256": "c" * 64,
        "teacher": teacher,
        "data": {"name": "digits", "fingerprint": "f"},
        "seed": 0,
        "objective": {"metric": "val_accuracy", "direction": "maximize", "of": "last"},
        "epochs": epochs,
        "budget_trials": trials,
        "tracking_uri": None,
        "runs": [],
        "finished": "complete",
    }


def _make_trial(paths: SweepPaths, number: int, epochs: int, metrics: int, chance: random.Random) -> None:
    params = {
        "loss.ikd": 0.05 * 100 ** chance.random(),
        "loss.batch_norm": 0.02 * 100 ** chance.random(),
        "generator.latent_dim": chance.choice([32, 64, 128]),
        "generator.steps": chance.randint(1, 4),
    }
    settings = _settings(epochs, params)
    trial = paths.trial(settings.identity())
    attempt = trial.attempt(1)
    attempt.samples.mkdir(parents=True)
    trial.record.write_text(json.dumps(_record(trial.root.name, number, params, settings).to_dict()))
    state = TrialState.PRUNED if number % 3 == 2 else TrialState.COMPLETE
    done = max(epochs // 5, 1) if state is TrialState.PRUNED else epochs
    lines = [_line(epoch, epochs, metrics, params, chance) for epoch in range(1, done + 1)]
    attempt.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if number % 10 == 0:
        for epoch in (1, done):
            Image.new("L", (302, 302), epoch % 256).save(attempt.sample(epoch))
    if state is TrialState.COMPLETE:
        classes = [str(label) for label in range(10)]
        shares = [lines[-1]["val_accuracy"]] * 10
        content = {"classes": classes, "val": {"images": [30] * 10, "right": [20] * 10, "accuracy": shares}}
        attempt.per_class.write_text(json.dumps(content))
    trial.result.write_text(json.dumps(_result(state, params, lines[-1], number).to_dict()))


def _settings(epochs: int, params: dict[str, float]) -> TrialSettings:
    train = TrainSettings(epochs=epochs)
    for path, value in params.items():
        train = replace_path(train, path, value)
    return TrialSettings(
        data=DataSettings(name="digits"),
        data_fingerprint="f",
        teacher=TeacherSettings(arch="resnet20", weights="/t", sha256="d" * 64, accuracy=0.97),
        student_arch="resnet8",
        train=train,
    )


def _record(name: str, number: int, params: dict[str, float], settings: TrialSettings) -> TrialRecord:
    def spread(kind: str, **limits: object) -> str:
        return json.dumps({"name": kind, "attributes": limits})

    distributions = {
        "loss.ikd": spread("FloatDistribution", step=None, low=0.05, high=5.0, log=True),
        "loss.batch_norm": spread("FloatDistribution", step=None, low=0.02, high=2.0, log=True),
        "generator.latent_dim": spread("CategoricalDistribution", choices=[32, 64, 128]),
        "generator.steps": spread("IntDistribution", log=False, step=1, low=1, high=4),
    }
    return TrialRecord(
        name=name,
        number=number,
        stage=Stage.SEARCH,
        params=params,
        distributions=distributions,
        system_attrs={},
        settings=settings.to_dict(),
        created=_CREATED + 60.0 * number,
        generation=1,
    )


def _line(
    epoch: int, epochs: int, metrics: int, params: dict[str, float], chance: random.Random
) -> dict[str, object]:
    reached = 0.9 * (1 - 2 ** (-8 * epoch / epochs)) - 0.02 * abs(params["loss.ikd"] - 1)
    line: dict[str, object] = {"epoch": epoch, "seconds": 1.5 * epoch}
    line["val_accuracy"] = reached + 0.01 * chance.random()
    line["label_fidelity"] = 0.5 * reached
    line |= {f"term_{index:02d}": chance.random() for index in range(metrics - 2)}
    return line | ({"final": True} if epoch == epochs else {})


def _result(state: TrialState, params: dict[str, float], line: dict[str, object], number: int) -> Result:
    accuracy = float(str(line["val_accuracy"]))
    return Result(
        state=state,
        objective=accuracy if state is TrialState.COMPLETE else None,
        params=params,
        metrics={key: value for key, value in line.items() if key not in ("seconds", "final")},
        timing={"seconds": float(str(line["seconds"])), "ended": _CREATED + 60.0 * number + 90.0},
        cause=None,
        detail=None if state is TrialState.COMPLETE else "pruned",
        attempt=1,
        generation=1,
    )
