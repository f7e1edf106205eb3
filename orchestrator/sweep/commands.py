"""What can be asked of a sweep: run it, go on with it, stop it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config import Experiment, parse_experiment
from orchestrator.errors import UsageError
from orchestrator.store.address import Storage
from orchestrator.store.folder import SweepFolder
from orchestrator.store.ownership import owner_of
from orchestrator.store.paths import StoragePaths
from orchestrator.store.working_copy import open_storage, publish
from orchestrator.sweep.progress import Progress
from orchestrator.sweep.reopen import Reopen
from orchestrator.sweep.run import Outcome, Run

__all__ = ["request_stop", "resume_sweep", "run_sweep"]


def run_sweep(
    experiment: Experiment, *, storage: Storage | None = None, address: str | None = None, progress: Progress
) -> Outcome:
    """Run an experiment file to its end, or go on with it if its sweep folder exists.

    Raises UsageError if the folder belongs to another file, naming the difference; OwnedError if another
    controller has it; UnreachableError if the cluster or the storage cannot be reached.
    """
    root = open_storage(storage or experiment.config.storage)
    paths = StoragePaths(root).sweep(experiment.config.name)
    return Run(experiment, paths, address, progress).carry_out(Reopen(), add_trials=0, takeover=False)


def resume_sweep(
    folder: SweepFolder,
    *,
    overrides: Sequence[str] = (),
    failed: bool = False,
    trials: Sequence[str] = (),
    causes: Sequence[str] = (),
    add_trials: int = 0,
    takeover: bool = False,
    address: str | None = None,
    progress: Progress,
) -> Outcome:
    """Go on with a sweep from its folder, trying chosen finished trials again; raises as `run_sweep`.

    `overrides` change fields of its file for good, such as budget.hours=8; those that decide a trial are
    refused with the difference.
    """
    experiment = parse_experiment(folder.experiment, overrides)
    run = Run(experiment, folder.paths, address, progress)
    reopen = Reopen(failed=failed, trials=tuple(trials), causes=tuple(causes))
    return run.carry_out(reopen, add_trials=add_trials, takeover=takeover)


def request_stop(folder: SweepFolder) -> None:
    """Ask the controller of a sweep to checkpoint and stop; raises UsageError if nobody runs it."""
    if owner_of(folder.paths) is None:
        raise UsageError(
            f"nobody runs sweep {folder.name}; "
            f"go on with it with `cpsc-orchestrate resume {folder.paths.address}`"
        )
    folder.paths.stop.touch()
    publish(folder.paths.stop)
