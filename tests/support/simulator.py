"""A stand-in for the cluster: carries out orders in this process, with learning curves for trials.

It writes what a trial's processes write, and nothing else, so the controller under test is the real one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpsc_core.attempt import (
    AttemptPaths,
    append_line,
    make_durable,
    make_folder,
    read_lines,
    write_json,
)
from cpsc_core.settings import DataSettings, TeacherSettings, TrainSettings, TrialSettings
from orchestrator.cluster.shape import Shape
from orchestrator.config import SweepConfig, parse_experiment
from orchestrator.controller.controller import Controller
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths, TrialPaths
from orchestrator.store.records import EndClass
from orchestrator.store.writer import SweepWriter
from orchestrator.trial.assignment import Assignment

EXPERIMENT = """
name: toy
data: {name: digits}
teacher: {arch: resnet20}
student: {arch: resnet8}
train: {epochs: 9, iterations_per_epoch: 1, batch_size: 2}
search: SPACE
sampler: {name: tpe, options: {n_startup_trials: 4}}
pruner: {name: successive_halving, min_epochs: 1, reduction_factor: 3}
budget: {trials: 10}
confirm: {top: 1, seeds: 2}
"""


SPACE = "{loss.ikd: {low: 0.1, high: 10.0}, generator.steps: {low: 1, high: 8}}"


def experiment(*overrides: str, space: str = SPACE) -> SweepConfig:
    """The toy experiment over a search space, with some fields overridden as in `--set`."""
    return parse_experiment(EXPERIMENT.replace("SPACE", space), overrides).config


def template(config: SweepConfig) -> TrialSettings:
    """Settings of a trial of an experiment, with a teacher that nobody ever loads."""
    return TrialSettings(
        data=DataSettings(name=config.data.name),
        data_fingerprint="0" * 64,
        teacher=TeacherSettings(arch=config.teacher.arch, weights="/none", sha256="1" * 64, accuracy=0.99),
        student_arch=config.student.arch,
        train=config.train,
    )


def learning_curve(train: TrainSettings, epoch: int) -> float:
    """A smooth accuracy, a function of the settings alone, that favours a weight near 3 and few steps."""
    quality = 1.0 - abs(train.loss.ikd - 3.0) / 20.0 - train.generator.steps / 100.0 + train.seed / 1e4
    return quality * epoch / (epoch + 1.0)


class KilledError(Exception):
    """The controller was killed here."""


@dataclass
class Simulator:
    """Runs orders on a number of slots; the order in which trials advance is drawn from `chance`."""

    slots: int = 1
    curve: Callable[[TrainSettings, int], float] = learning_curve
    costs: Callable[[TrainSettings], Mapping[str, float]] = lambda train: {}
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    faults: Mapping[str, list[tuple[int, EndClass]]] = field(default_factory=dict)
    kill_after: int | None = None
    epochs_run: list[tuple[str, int, int]] = field(default_factory=list)
    clock: float = 0.0

    def run(self, orders: Controller) -> None:
        """Carry out the orders until they are finished, or raise KilledError after `kill_after` events."""
        live: list[Assignment] = []
        while not orders.finished or live:
            while len(live) < self.slots and (assignment := orders.hand_out()) is not None:
                self._tick()
                self._open(assignment)
                live.append(assignment)
            if not live:
                self.clock += 1.0
                continue
            self._tick()
            assignment = self.chance.choice(live)
            if not self._advance(orders, assignment):
                live.remove(assignment)

    def _tick(self) -> None:
        self.clock += 1.0
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                raise KilledError

    def _open(self, assignment: Assignment) -> None:
        paths = TrialPaths(Path(assignment.folder))
        attempt = paths.attempt(assignment.attempt)
        attempt.root.mkdir(parents=True)
        for folder in (attempt.root, attempt.root.parent, paths.root):
            make_durable(folder)
        before = [read_lines(paths.attempt(number).metrics) for number in range(1, assignment.attempt)]
        longest = max(before, key=len, default=[])
        for line in longest:
            append_line(attempt.metrics, line | {"seconds": 0.0})

    def _advance(self, orders: Controller, assignment: Assignment) -> bool:
        """One epoch of a trial; whether it goes on."""
        settings = TrialSettings.from_dict(assignment.settings)
        attempt = AttemptPaths(Path(assignment.folder) / "attempts" / str(assignment.attempt))
        epoch = len(read_lines(attempt.metrics)) + 1
        for at, ended in self.faults.get(assignment.name, []):
            if at == epoch and not (ended is not EndClass.DIVERGED and assignment.attempt > 1):
                orders.hear_end(assignment, ended, "injected", [], "here")
                return False
        final = epoch >= settings.train.epochs
        line: dict[str, Any] = {
            "epoch": epoch,
            "val_accuracy": self.curve(settings.train, epoch),
            "seconds": 1.0 * epoch,
        }
        if final:
            line["final"] = True
            write_json(attempt.costs, dict(self.costs(settings.train)))
        append_line(attempt.metrics, line)
        self.epochs_run.append((assignment.name, assignment.attempt, epoch))
        self._tick()
        if final:
            orders.hear_end(assignment, EndClass.COMPLETE, None, [], "here")
            return False
        if not orders.hear_line(assignment, line):
            self._tick()
            orders.hear_end(assignment, EndClass.PRUNED, None, [], "here")
            return False
        return True


def run(config: SweepConfig, root: Path, simulator: Simulator) -> Controller:
    """A controller that has run a sweep folder to its end on a simulator."""
    paths = SweepPaths(root)
    make_folder(paths.trials)
    with Lease.acquire(paths.lease) as lease:
        controller = Controller(
            config,
            template(config),
            SweepWriter(paths, lease),
            Shape(workers=1, cpus=1, gpus=0),
            clock=lambda: simulator.clock,
        )
        simulator.run(controller)
    return controller


__all__ = ["SPACE", "KilledError", "Simulator", "experiment", "learning_curve", "replace", "run", "template"]
