"""Trials that end between two words, and trials that are tried again."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller.controller import Controller
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.writer import SweepWriter
from tests.support.played import run_killed, table, trials
from tests.support.simulator import KilledError, Simulator, experiment, run


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_trial_that_dies_before_its_line_is_heard_is_pruned_on_it_all_the_same(
    tmp_path: Path, is_killed: bool
) -> None:
    """Its process has written the epoch, and neither it nor the controller got to speak of it."""
    run(experiment(), tmp_path / "whole", Simulator())
    pruned = next(trial for trial in trials(tmp_path / "whole") if trial.state is TrialState.PRUNED)

    class Mute(Simulator):
        def _advance(self, orders: Controller, assignment: Any) -> bool:
            if assignment.name != pruned.name:
                return super()._advance(orders, assignment)
            hear_line = orders.hear_line
            orders.hear_line = lambda *_: True  # type: ignore[method-assign]
            try:
                super()._advance(orders, assignment)
            finally:
                orders.hear_line = hear_line  # type: ignore[method-assign]
            if pruned.epoch > self.epochs_run[-1][2]:
                return orders.hear_line(assignment, trials(orders.paths.root)[-1].history[-1])
            if is_killed:
                raise KilledError
            orders.hear_end(assignment, EndClass.INFRASTRUCTURE, "lost", [], "here")
            return False

    with suppress(KilledError):
        run(experiment(), tmp_path / "toy", Mute())
    run(experiment(), tmp_path / "toy", Simulator())

    assert table(tmp_path / "toy") == table(tmp_path / "whole")


def reopen(root: Path, name: str) -> None:
    with Lease.acquire(SweepPaths(root).lease) as lease:
        SweepWriter(SweepPaths(root), lease).reopen(name)


def test_a_complete_trial_that_is_tried_again_runs_from_its_beginning_to_the_same_end(tmp_path: Path) -> None:
    root = tmp_path / "toy"
    run(experiment(), root, Simulator())
    before = table(root)
    complete = next(trial for trial in trials(root) if trial.state is TrialState.COMPLETE)
    seconds = complete.seconds
    reopen(root, complete.name)
    again = Simulator()

    run(experiment(), root, again)

    assert again.epochs_run == [(complete.name, 2, epoch) for epoch in range(1, 10)]
    assert table(root) == before
    (trial,) = (each for each in trials(root) if each.name == complete.name)
    assert trial.seconds == 2 * seconds  # both times count
    assert trial.result is not None and trial.result.attempt == 2


@pytest.mark.parametrize("kills", [[], [0], [1], [2]])
def test_a_pruned_trial_that_is_tried_again_is_not_pruned_where_it_was(
    tmp_path: Path, kills: list[int]
) -> None:
    root = tmp_path / "toy"
    run(experiment(), root, Simulator())
    pruned = next(trial for trial in trials(root) if trial.state is TrialState.PRUNED)
    pruned_at = pruned.epoch
    reopen(root, pruned.name)

    run_killed(experiment(), root, kills)

    (trial,) = (each for each in trials(root) if each.name == pruned.name)
    assert trial.result is not None
    assert trial.epoch > pruned_at
    assert [line["epoch"] for line in trial.history] == list(range(1, trial.epoch + 1))


def test_a_pruned_trial_whose_second_attempt_wrote_nothing_may_be_tried_a_third_time(tmp_path: Path) -> None:
    root = tmp_path / "toy"
    run(experiment(), root, Simulator())
    pruned = next(trial for trial in trials(root) if trial.state is TrialState.PRUNED)
    pruned_at = pruned.epoch
    reopen(root, pruned.name)

    class Failing(Simulator):
        def _open(self, assignment: Any) -> None:
            """It leaves no folder."""

        def _advance(self, orders: Controller, assignment: Any) -> bool:
            orders.hear_end(assignment, EndClass.ERROR, "no teacher", [], "here")
            return False

    run(experiment(), root, Failing())
    reopen(root, pruned.name)
    run(experiment(), root, Simulator())

    (trial,) = (each for each in trials(root) if each.name == pruned.name)
    assert trial.epoch > pruned_at
