"""What a simulated sweep came to, and sweeps that are killed on the way."""

import random
from pathlib import Path
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.controller.controller import Controller
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import Stage
from tests.support.simulator import KilledError, Simulator, run

__all__ = ["run_killed", "table", "trials"]

CLOCK = {"timing", "generation", "attempt"}


def trials(root: Path, stage: Stage = Stage.SEARCH) -> list[TrialFolder]:
    return [trial for trial in SweepFolder(SweepPaths(root)).trials() if trial.record.stage is stage]


def table(root: Path) -> list[Any]:
    """What a sweep came to: parameters, history and result of every trial, without clocks and attempts."""
    rows = []
    for trial in SweepFolder(SweepPaths(root)).trials():
        assert trial.result is not None
        result = {key: value for key, value in trial.result.to_dict().items() if key not in CLOCK}
        history = [{**line, "seconds": 0} for line in trial.history]
        rows.append((trial.name, trial.record.number, trial.record.stage, result, history))
    return rows


def run_killed(
    config: SweepConfig, root: Path, kills: list[int], slots: int = 1
) -> tuple[Controller, list[Any]]:
    """A sweep whose controller is killed after so many events, again and again, and resumed each time."""
    epochs: list[Any] = []
    for kill in kills:
        simulator = Simulator(slots=slots, kill_after=kill, chance=random.Random(kill))
        try:
            return run(config, root, simulator), epochs + simulator.epochs_run
        except KilledError:
            epochs += simulator.epochs_run
    simulator = Simulator(slots=slots)
    return run(config, root, simulator), epochs + simulator.epochs_run
