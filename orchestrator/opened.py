"""The Python door to a finished or running sweep: its study, its tables, its students."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.report.best import best_student, find_best
from orchestrator.store.address import storage_at
from orchestrator.store.folder import SweepFolder, TrialFolder, find_sweep, named
from orchestrator.store.records import TrialState
from orchestrator.store.working_copy import address_of, fetch, place_of

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa
    from torch import nn

__all__ = ["OpenSweep", "open_sweep"]

_STORAGE = Path("~/cpsc-runs")


@dataclass(frozen=True)
class OpenSweep:
    """One sweep, read when it is first asked for something; open it again to look again."""

    folder: SweepFolder
    """Where it lies."""

    @cached_property
    def study(self) -> optuna.Study:
        """The search as an Optuna study in memory; the user attribute `trial` is a trial's hash."""
        from orchestrator.study.view import study_of

        return study_of(self.folder)

    @cached_property
    def trials(self) -> pa.Table:
        """A row per trial, see orchestrator.report.tables.TRIAL_FIELDS; read from the folders themselves."""
        from orchestrator.report.tables import trials_table

        return trials_table(self.folder.trials())

    @cached_property
    def metrics(self) -> pa.Table:
        """A row per trial, epoch and metric, see orchestrator.report.tables.METRIC_FIELDS."""
        from orchestrator.report.tables import join_metrics, metrics_table

        return join_metrics([metrics_table(trial) for trial in self.folder.trials()])

    def load_student(self, trial: str | None = None) -> nn.Module:
        """The student of a complete trial, by its number or the start of its hash; None: that of the best.

        In evaluation mode, on the CPU; called with images (B, C, H, W), normalised as its data set is, it
        gives `logits_BC` and `features_BD`. Raises UsageError if there is no such student.
        """
        from cpsc_core.student import load_student

        chosen = find_student(self.folder, trial)
        return load_student(chosen.record.settings, student_weights(chosen))


def open_sweep(sweep: str | Path, storage: str | Path = _STORAGE) -> OpenSweep:
    """The sweep at a path or address, or of a name in a storage; UsageError if there is none."""
    return OpenSweep(find_sweep(str(sweep), storage_at(str(storage))))


def find_student(folder: SweepFolder, trial: str | None = None) -> TrialFolder:
    """The one complete trial of a number or a beginning of a hash; None: the best. Else UsageError."""
    if trial is None:
        best = find_best(folder)
        found = [] if best is None else [best]
    else:
        found = named(folder.trials(), trial)
    complete = [each for each in found if each.state is TrialState.COMPLETE]
    if len(complete) != 1:
        wanted = (
            "no trial is complete" if trial is None else f"{trial!r} names {len(complete)} complete trials"
        )
        raise UsageError(
            f"{wanted} in sweep {folder.name}; see them with `cpsc-orchestrate status {folder.paths.address}`"
        )
    return complete[0]


def student_weights(trial: TrialFolder) -> Path:
    """The weights of a complete trial's student; UsageError if somebody removed them."""
    weights = best_student(trial)
    if weights is None or not fetch(weights):
        sweep = address_of(trial.paths.root.parent.parent)
        raise UsageError(
            f"the student of trial {trial.name} is no longer in {place_of(trial.paths.root)}; "
            f"`cpsc-orchestrate resume {sweep} --trial {trial.name}` trains it again"
        )
    return weights
