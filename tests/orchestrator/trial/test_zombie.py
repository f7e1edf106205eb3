"""Processes of an attempt that was given up, and which go on all the same."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpsc_core.attempt import read_lines
from cpsc_core.settings import TeacherSettings
from orchestrator.cluster.capacity import Fixed
from orchestrator.cluster.shape import Shape
from orchestrator.controller.controller import Controller
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import TrialState
from orchestrator.store.writer import SweepWriter
from tests.support.ray_sweep import as_if_undisturbed, run_on_ray, template, tiny_experiment, trials

ZOMBIE = """
import json, sys, time
from pathlib import Path
from cpsc_core.settings import TrialSettings
from cpsc_core.trial import run_trial

folder = Path(sys.argv[1])
settings = TrialSettings.from_dict(json.loads((folder / "trial.json").read_text())["settings"])
for line in run_trial(settings, folder, 1, threads=1):
    time.sleep(2.0)
"""
PATIENCE_SECONDS = 120.0


@pytest.mark.slow
def test_what_a_lost_attempt_still_writes_changes_neither_the_next_one_nor_the_result(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    """Its controller is gone, and its machine for all that the next controller knows."""
    paths = SweepPaths(tmp_path / "toy")
    paths.trials.mkdir(parents=True)
    config = tiny_experiment("budget.trials=1", "train.epochs=60")
    with Lease.acquire(paths.lease) as lease:
        shape = Shape(workers=1, cpus=1, gpus=0)
        lost = Controller(config, template(config, teacher), SweepWriter(paths, lease), shape).hand_out()
    assert lost is not None
    attempt = paths.trial(lost.name).attempt(lost.attempt)
    zombie = subprocess.Popen([sys.executable, "-c", ZOMBIE, lost.folder])
    try:
        await_lines(attempt.metrics, 2)
        run_on_ray(config, paths.root, teacher, scratch, Fixed(1))
        result = paths.trial(lost.name).result.read_bytes()
        await_lines(attempt.metrics, len(read_lines(attempt.metrics)) + 1)
        assert zombie.poll() is None
    finally:
        zombie.kill()
        zombie.wait()

    (trial,) = trials(paths.root)
    assert trial.result is not None
    assert (trial.result.state, trial.result.attempt) == (TrialState.COMPLETE, 2)
    assert trial.paths.result.read_bytes() == result
    assert as_if_undisturbed(trial, tmp_path / "whole")


def await_lines(path: Path, count: int) -> None:
    """Return once a metrics file has so many lines."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(read_lines(path)) < count:
        assert time.monotonic() < deadline, f"{path} never had {count} lines"
        time.sleep(0.1)
