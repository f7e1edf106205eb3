from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.writer import SweepWriter
from orchestrator.sweep.reopen import Reopen
from tests.support.simulator import Simulator, experiment, run

CONFIG = ("pruner.name=none", "budget.trials=3", "sampler.name=random", "confirm.top=0")


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """Three trials: one failed with an error, one diverged, one complete."""
    run(experiment(*CONFIG), tmp_path / "first", Simulator())
    names = [trial.name for trial in SweepFolder(SweepPaths(tmp_path / "first")).trials()]
    faults = {names[0]: [(2, EndClass.ERROR)], names[1]: [(3, EndClass.DIVERGED)]}
    run(experiment(*CONFIG), tmp_path / "toy", Simulator(faults=faults))
    return SweepFolder(SweepPaths(tmp_path / "toy"))


@pytest.mark.parametrize(
    ("reopen", "numbers"),
    [
        (Reopen(), []),
        (Reopen(failed=True), [0, 1]),
        (Reopen(causes=("diverged",)), [1]),
        (Reopen(causes=("hang",)), []),
    ],
)
def test_failed_trials_are_chosen_by_state_and_cause(
    folder: SweepFolder, reopen: Reopen, numbers: list[int]
) -> None:
    assert [trial.record.number for trial in reopen.choose(folder)] == numbers


def test_any_finished_trial_is_chosen_by_the_beginning_of_its_hash(folder: SweepFolder) -> None:
    complete = folder.trials()[2]

    assert [trial.name for trial in Reopen(trials=(complete.name[:8],)).choose(folder)] == [complete.name]


def test_any_finished_trial_is_chosen_by_its_number(folder: SweepFolder) -> None:
    assert [each.record.number for each in Reopen(trials=("1",)).choose(folder)] == [1]


def test_the_number_of_a_trial_that_has_not_ended_names_no_other(folder: SweepFolder) -> None:
    running = folder.trials()[1]
    with Lease.acquire(folder.paths.lease) as lease:
        SweepWriter(folder.paths, lease).reopen(running.name)

    with pytest.raises(UsageError, match="'1' names 0 finished trials"):
        Reopen(trials=("1",)).choose(folder)


@pytest.mark.parametrize("wanted", ["", "zzzz", "None", "77"])
def test_a_hash_that_names_no_single_trial_is_refused(folder: SweepFolder, wanted: str) -> None:
    with pytest.raises(UsageError, match="one is needed; `cpsc-orchestrate status"):
        Reopen(trials=(wanted,)).choose(folder)


def test_a_reopened_trial_is_run_again_and_its_old_result_kept(folder: SweepFolder) -> None:
    failed = folder.trials()[0]
    with Lease.acquire(folder.paths.lease) as lease:
        SweepWriter(folder.paths, lease).reopen(failed.name)
    again = Simulator()

    run(experiment(*CONFIG), folder.paths.root, again)

    trial = folder.trials()[0]
    assert trial.state is TrialState.COMPLETE
    assert {name for name, _, _ in again.epochs_run} == {failed.name}
    assert trial.paths.old_result(1).exists()
