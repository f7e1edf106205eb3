"""What becomes of attempts that fail: records, retries and budgets, over restarts too."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpsc_core.attempt import make_folder, read_lines
from orchestrator.cluster.shape import Shape
from orchestrator.config import SweepConfig
from orchestrator.controller.controller import Controller
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths, TrialPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.writer import SweepWriter
from orchestrator.trial.assignment import Assignment
from tests.support.simulator import KilledError, Simulator, experiment, template

PLAIN = ("sampler.name=random", "pruner.name=none", "confirm.top=0", "budget.trials=1")
ALONE = Shape(workers=1, cpus=1, gpus=0.0)
TRACE = ["Traceback (most recent call last):", '  File "/x/update.py", line 7, in update', "ValueError: no"]


@dataclass(frozen=True)
class Failure:
    """How an attempt fails after two epochs."""

    ended: EndClass
    trace: Sequence[str] = ()


@dataclass
class Failing(Simulator):
    """Trials whose first attempts fail, each in a way of its own, and leave a log."""

    failures: Sequence[Failure] = ()
    assignments: list[Assignment] = field(default_factory=list)

    def _open(self, assignment: Assignment) -> None:
        super()._open(assignment)
        self.assignments.append(assignment)

    def _advance(self, orders: Controller, assignment: Assignment) -> bool:
        attempt = TrialPaths(Path(assignment.folder)).attempt(assignment.attempt)
        has_begun = len(read_lines(attempt.metrics)) >= 2
        if assignment.attempt > len(self.failures) or not has_begun:
            return super()._advance(orders, assignment)
        failure = self.failures[assignment.attempt - 1]
        attempt.log.write_text(f"the words of attempt {assignment.attempt}\n")
        orders.hear_end(assignment, failure.ended, "why", list(failure.trace), "gpu-7")
        return False


def go_on(config: SweepConfig, root: Path, simulator: Simulator, shape: Shape = ALONE) -> list[TrialFolder]:
    """The trials of a sweep after a controller has run it to its end, or was killed."""
    paths = SweepPaths(root)
    make_folder(paths.trials)
    with Lease.acquire(paths.lease) as lease:
        controller = Controller(
            config, template(config), SweepWriter(paths, lease), shape, clock=lambda: simulator.clock
        )
        with suppress(KilledError):
            simulator.run(controller)
    return SweepFolder(paths).trials()


def reopen(root: Path, trial: TrialFolder) -> None:
    with Lease.acquire(SweepPaths(root).lease) as lease:
        SweepWriter(SweepPaths(root), lease).reopen(trial.name)


def test_a_failed_trial_says_why_where_and_what_came_last(tmp_path: Path) -> None:
    simulator = Failing(failures=[Failure(EndClass.ERROR, TRACE)])

    (trial,) = go_on(experiment(*PLAIN), tmp_path / "toy", simulator)

    assert trial.result is not None
    assert (trial.result.state, trial.result.cause, trial.result.detail) == ("failed", "error", "why")
    assert trial.result.node == "gpu-7"
    assert trial.result.stack == TRACE
    assert trial.result.lines == ["the words of attempt 1"]
    assert (trial.ends[1].stack, trial.ends[1].lines) == (trial.result.stack, trial.result.lines)


def test_a_complete_trial_has_nothing_of_the_failures_before(tmp_path: Path) -> None:
    simulator = Failing(failures=[Failure(EndClass.HANG)])

    (trial,) = go_on(experiment(*PLAIN), tmp_path / "toy", simulator)

    assert trial.result is not None
    assert (trial.result.state, trial.result.attempt) == (TrialState.COMPLETE, 2)
    assert (trial.result.node, trial.result.stack, trial.result.lines) == (None, [], [])


@pytest.mark.parametrize("killed_between", [False, True])
def test_the_same_error_twice_ends_the_trial_although_budget_is_left(
    tmp_path: Path, killed_between: bool
) -> None:
    config = experiment(*PLAIN, "retry.error=9")
    failures = [Failure(EndClass.ERROR, TRACE)] * 9
    if killed_between:
        (trial,) = go_on(config, tmp_path / "toy", Failing(failures=failures, kill_after=6))
        assert (trial.attempts, trial.result) == ([1], None)

    (trial,) = go_on(config, tmp_path / "toy", Failing(failures=failures, clock=100.0))

    assert trial.result is not None
    assert trial.attempts == [1, 2]
    assert trial.result.detail == "why; it failed at the same place before, and is not tried again"


def test_a_trial_that_is_reopened_gets_its_budget_anew(tmp_path: Path) -> None:
    config = experiment(*PLAIN, "retry.error=9")
    failures = [Failure(EndClass.ERROR, TRACE)] * 4
    (trial,) = go_on(config, tmp_path / "toy", Failing(failures=failures))
    reopen(tmp_path / "toy", trial)

    (trial,) = go_on(config, tmp_path / "toy", Failing(failures=failures, clock=100.0))

    assert trial.attempts == [1, 2, 3, 4]
    assert trial.state is TrialState.FAILED


def test_memory_that_ran_out_is_saved_ever_after_restarts_and_reopenings_included(tmp_path: Path) -> None:
    config = experiment(*PLAIN)
    failures = [Failure(EndClass.OUT_OF_MEMORY)] * 2
    first = Failing(failures=failures)
    (trial,) = go_on(config, tmp_path / "toy", first)
    assert trial.result is not None
    assert [each.recompute for each in first.assignments] == [False, True]
    assert (trial.result.cause, trial.attempts) == ("out_of_memory", [1, 2])
    assert trial.result.detail == "why; computing activations twice did not save enough"

    reopen(tmp_path / "toy", trial)
    again = Failing(failures=failures, clock=100.0)
    (trial,) = go_on(config, tmp_path / "toy", again)

    assert [each.recompute for each in again.assignments] == [True]
    assert trial.state is TrialState.COMPLETE


def test_a_trial_that_saves_memory_by_its_own_settings_is_not_tried_again(tmp_path: Path) -> None:
    config = experiment(*PLAIN, "train.recompute=true")

    (trial,) = go_on(config, tmp_path / "toy", Failing(failures=[Failure(EndClass.OUT_OF_MEMORY)]))

    assert (trial.state, trial.attempts) == (TrialState.FAILED, [1])


PAIR = Shape(workers=2, cpus=1, gpus=1.0)


def test_gpu_hours_are_seconds_times_gpus_over_all_attempts(tmp_path: Path) -> None:
    failures = [Failure(EndClass.INFRASTRUCTURE), Failure(EndClass.PREEMPTED)]

    (trial,) = go_on(experiment(*PLAIN), tmp_path / "toy", Failing(failures=failures), PAIR)

    assert [end.gpus for end in trial.ends.values()] == [2.0, 2.0, 2.0]
    assert trial.gpu_seconds == 2 * trial.seconds > 0
    assert trial.result is not None
    assert trial.result.timing["gpu_seconds"] == trial.gpu_seconds


BUDGETS = {
    "trials": ["budget.trials=7"],
    "hours": ["budget.trials=99", "budget.hours=0.03"],
    "gpu_hours": ["budget.trials=99", "budget.gpu_hours=0.06"],
    "plateau": ["budget.trials=99", "budget.plateau={trials: 3}"],
}


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_ends_a_sweep_at_the_same_trial_however_often_it_was_killed(
    tmp_path: Path, budget: str
) -> None:
    """Killed between trials: what a killed trial computes again counts, as it should."""
    config = experiment(*PLAIN, *BUDGETS[budget])
    whole = go_on(config, tmp_path / "whole", Simulator(), PAIR)
    chance = random.Random(3)
    clock, ended = 0.0, 0
    while True:
        simulator = Simulator(clock=clock, kill_after=chance.randint(1, 3) * (1 + 2 * config.train.epochs))
        trials = go_on(config, tmp_path / "killed", simulator, PAIR)
        clock = simulator.clock
        if simulator.kill_after >= 0:
            break
        ended += 1

    assert ended >= 2
    assert 1 < len(whole) < 99
    assert [trial.name for trial in trials] == [trial.name for trial in whole]
