"""Sweeps of tiny trials on a real Ray, in this process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cpsc_core.attempt import AttemptPaths, read_lines
from cpsc_core.settings import TeacherSettings, TrialSettings
from orchestrator.cluster.capacity import Fixed, Places
from orchestrator.cluster.shape import Shape
from orchestrator.config import SweepConfig
from orchestrator.controller.controller import Controller
from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.store.folder import SweepFolder, TrialFolder, read_json
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.writer import SweepWriter
from tests.support.simulator import experiment
from tests.support.trials import digest, finish, tiny_trial

__all__ = [
    "as_if_undisturbed",
    "found",
    "meanwhile",
    "run_on_ray",
    "signal_rank",
    "template",
    "tiny_experiment",
    "trials",
]

SPACE = "{loss.ikd: {low: 0.1, high: 1.0}, generator.latent_dim: {choices: [4, 8]}}"
TWO = Fixed(2)
TRAIN = (
    "train={epochs: 4, iterations_per_epoch: 2, batch_size: 8, generator: {width: 8, steps: 1},"
    " student: {steps: 1, lr: 0.01}}"
)


def tiny_experiment(*overrides: str, space: str = SPACE) -> SweepConfig:
    """Trials of four epochs of two iterations."""
    return experiment(
        TRAIN, "sampler.name=random", "pruner.name=none", "confirm.top=0", *overrides, space=space
    )


def run_on_ray(
    config: SweepConfig,
    root: Path,
    teacher: TeacherSettings,
    scratch: Path,
    places: Places = TWO,
) -> Controller:
    """A sweep run to its end on the Ray that is already there."""
    from orchestrator.trial.tune import run_trials

    paths = SweepPaths(root)
    shape = Shape(workers=config.resources.workers, cpus=1, gpus=0)
    paths.trials.mkdir(parents=True, exist_ok=True)
    with Lease.acquire(paths.lease) as lease:
        controller = Controller(config, template(config, teacher), SweepWriter(paths, lease), shape)
        run_trials(controller, places=places, scratch=scratch)
        remove_stale_drafts(paths.root)  # of ranks that were killed on the way
    return controller


def template(config: SweepConfig, teacher: TeacherSettings) -> TrialSettings:
    """Settings of a trial of the experiment, scored on the validation split."""
    return replace(tiny_trial(teacher), train=config.train, splits=("val",))


def trials(root: Path) -> list[TrialFolder]:
    """The trials of a sweep."""
    return SweepFolder(SweepPaths(root)).trials()


def as_if_undisturbed(trial: TrialFolder, folder: Path) -> bool:
    """Whether a trial equals, to the bit, the same trial run in this process and never disturbed."""
    settings = TrialSettings.from_dict(trial.record.settings)
    return found(trial) == digest(finish(settings, folder / trial.name))


def found(trial: TrialFolder) -> object:
    """All that a finished trial must have to the bit."""
    assert trial.result is not None
    return digest(trial.paths.attempt(trial.result.attempt))


@contextmanager
def meanwhile(act: Callable[[], bool]) -> Iterator[None]:
    """Try `act` every 20 ms in another thread until it says that it has acted, while the block runs."""
    leaving = threading.Event()
    acted = []

    def follow() -> None:
        while not leaving.is_set() and not acted:
            if act():
                acted.append(True)
            time.sleep(0.02)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()
    assert acted, "nothing happened while the sweep ran"


def signal_rank(
    root: Path, number: signal.Signals, after_epoch: int = 1, rank: int = 0
) -> Callable[[], bool]:
    """An act: send a signal to a rank of a trial that is in its first attempt and has finished epochs."""

    def act() -> bool:
        for folder in root.glob("trials/*/attempts/1"):
            attempt = AttemptPaths(folder)
            process = read_json(attempt.process)
            lines = read_lines(attempt.metrics)
            if process and len(lines) >= after_epoch and not lines[-1].get("final"):
                os.kill(process["pids"][rank], number)
                return True
        return False

    return act
