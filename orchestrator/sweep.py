"""The stages of a sweep: teacher, search, confirm, report. Takes the lease, starts or joins Ray."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc_core.attempt import make_folder
from cpsc_core.card import TeacherCard
from cpsc_core.settings import TrialSettings
from orchestrator.board import Pace
from orchestrator.cluster.capacity import Cluster, Places
from orchestrator.cluster.places import open_places
from orchestrator.cluster.scratch import new_scratch, remove_scratch
from orchestrator.cluster.session import open_cluster
from orchestrator.cluster.shape import Shape
from orchestrator.config import Experiment, SweepConfig, changes, difference, parse_experiment
from orchestrator.controller.controller import Controller
from orchestrator.errors import BudgetError, UnreachableError, UsageError
from orchestrator.interrupt import Interrupt
from orchestrator.log import logging_to
from orchestrator.manifest import begin_run, drift, note_shape, note_teacher
from orchestrator.progress import Progress
from orchestrator.reopen import Reopen
from orchestrator.store.address import Storage
from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.store.folder import SweepFolder
from orchestrator.store.ownership import own, owner_of
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.relay import Relay
from orchestrator.store.working_copy import copy_of, open_storage, place_of, publish, refresh
from orchestrator.store.writer import SweepWriter
from orchestrator.study.prior import describe_prior, gather_prior
from orchestrator.teacher_stage import teacher_stage
from orchestrator.vitals import Vitals
from orchestrator.watched import Watched
from orchestrator.window import Window

_STORAGE_FAILS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})

__all__ = ["Outcome", "owner", "request_stop", "resume_sweep", "run_sweep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep command ended."""

    exit_code: int
    """0 done, 1 a trial failed for a cause other than diverged, 130 or 143 interrupted."""
    sweep: SweepPaths
    """Where the sweep lies."""
    message: str | None = None
    """What happened and the next command, unless all went well."""


def run_sweep(
    experiment: Experiment, *, storage: Storage | None = None, address: str | None = None, progress: Progress
) -> Outcome:
    """Run an experiment file to its end, or go on with it if its sweep folder exists.

    Raises UsageError if the folder belongs to another file, naming the difference; OwnedError if another
    controller has it; UnreachableError if the cluster or the storage cannot be reached.
    """
    root = open_storage(storage or experiment.config.storage)
    paths = StoragePaths(root).sweep(experiment.config.name)
    return _Run(experiment, paths, address, progress).carry_out(Reopen(), add_trials=0, takeover=False)


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
    run = _Run(experiment, folder.paths, address, progress)
    reopen = Reopen(failed=failed, trials=tuple(trials), causes=tuple(causes))
    return run.carry_out(reopen, add_trials=add_trials, takeover=takeover)


def request_stop(folder: SweepFolder) -> None:
    """Ask the controller of a sweep to checkpoint and stop; raises UsageError if nobody runs it."""
    if owner(folder) is None:
        raise UsageError(
            f"nobody runs sweep {folder.name}; "
            f"go on with it with `cpsc-orchestrate resume {folder.paths.address}`"
        )
    folder.paths.stop.touch()
    publish(folder.paths.stop)


def owner(folder: SweepFolder) -> str | None:
    """The living controller of a sweep, in words; None if nobody runs it."""
    return owner_of(folder.paths)


class _Run:
    """One run of a sweep's controller, from the lease to the closing words."""

    def __init__(
        self, experiment: Experiment, paths: SweepPaths, address: str | None, progress: Progress
    ) -> None:
        self.config = experiment.config
        self.experiment = experiment
        self.paths = paths
        self.address = address
        self.progress = progress
        self.scratch = new_scratch()
        self._stack = ExitStack()
        self._exit_code: Callable[[], int | None] = lambda: None

    def carry_out(self, reopen: Reopen, *, add_trials: int, takeover: bool) -> Outcome:
        is_remote = copy_of(self.paths.root) is not None
        if is_remote and self.config.tracking.uri is None:
            raise UsageError(
                f"storage in a bucket, {self.paths.storage.address}, has no place for MLflow's database: set "
                "tracking.uri to the server that is to show the sweep"
            )
        try:
            make_folder(self.paths.trials)
        except OSError as error:
            raise UnreachableError(
                f"cannot write to {self.paths.storage.root}: {error}; choose another folder with --storage"
            ) from error
        try:
            return self._own(reopen, add_trials=add_trials, takeover=takeover)
        except OSError as error:
            if is_remote and not self.paths.root.exists():
                raise UnreachableError(
                    f"the working copy of {self.paths.address} was removed while it was in use; "
                    f"what was finished is kept: {self._farewell()}"
                ) from error
            if error.errno not in _STORAGE_FAILS:
                raise
            raise UnreachableError(
                f"the storage of {self.paths.root} fails: {error.strerror}; what was finished is kept: "
                f"see to it, then {self._farewell()}"
            ) from error

    def _own(self, reopen: Reopen, *, add_trials: int, takeover: bool) -> Outcome:
        with self._stack as stack:
            note = {"scratch": str(self.scratch)}
            lease = stack.enter_context(own(self.paths, note=note, takeover=takeover))
            refresh(self.paths.root)  # what others did before it was ours, and nothing that never counted
            if isinstance(stale := lease.previous.get("scratch"), str) and not lease.fences:
                remove_scratch(Path(stale))
            remove_stale_drafts(self.paths)
            writer = SweepWriter(self.paths, lease)
            stack.enter_context(logging_to(self.paths.log))
            stack.enter_context(Relay(self.paths, lease))
            self._prepare(writer, reopen, add_trials)
            interrupt = stack.enter_context(Interrupt(self._ask_to_stop, self._farewell()))
            self._exit_code = lambda: interrupt.exit_code
            try:
                reason = self._stages(writer)
            except UnreachableError as error:
                if interrupt.caught is None:
                    raise
                reason = str(error)  # a signal to every process of a job takes Ray along
            remove_stale_drafts(self.paths)  # of ranks that were killed on the way
            return self._conclude(writer, reason, interrupt)

    def _prepare(self, writer: SweepWriter, reopen: Reopen, add_trials: int) -> None:
        """What can be refused is refused here, before anything runs."""
        folder = SweepFolder(self.paths)
        changed = self._changes()
        start_from = self._start_from(folder.manifest)
        writer.write_experiment(self.experiment.text)
        for trial in reopen.choose(folder):
            writer.reopen(trial.name)
        manifest = begin_run(
            folder.manifest,
            self.experiment,
            name=self.paths.name,
            generation=writer.lease.generation,
            add_trials=add_trials,
            changes=changed,
            start_from=start_from,
        )
        writer.write_manifest(manifest)
        budget = self.config.budget.model_copy(update={"trials": manifest["budget_trials"]})
        self.config = self.config.model_copy(update={"budget": budget})

    def _stages(self, writer: SweepWriter) -> str:
        """Run the stages; returns why nothing is left to do."""
        self.progress.say(f"starting Ray {'on this machine' if self.address is None else self.address}")
        with ExitStack() as stack:
            cluster = stack.enter_context(open_cluster(self.address, self.scratch, self.progress.say))
            shape = cluster.shape(self.config.resources)
            places = stack.enter_context(
                open_places(
                    cluster,
                    shape,
                    shared=place_of(self.paths.root),
                    data=self.config.data.settings().root,
                    say=self.progress.say,
                )
            )
            self._note_shape(writer, shape)
            stopped = self.paths.stop.exists
            card = teacher_stage(self.config, self.paths.storage, cluster, self.progress, stopped)
            if card is None:
                return "stopped while the teacher was made"
            writer.write_manifest(note_teacher(SweepFolder(self.paths).manifest, card))
            template = _template(self.config, self.paths.storage, card)
            controller = Controller(self.config, template, writer, shape)
            return self._search(controller, cluster, places, template)

    def _changes(self) -> list[str]:
        """Fields in which the file differs from the sweep's own; UsageError if they decide a trial."""
        if not self.paths.experiment.exists():
            return []
        before = parse_experiment(SweepFolder(self.paths).experiment).config
        if lines := difference(before, self.config):
            raise UsageError(
                f"sweep {self.paths.name} in {self.paths.storage.address} was started with other values, "
                "which decide its trials:\n  "
                + "\n  ".join(lines)
                + f"\ngive the experiment another name, or go on with the old values: "
                f"`cpsc-orchestrate resume {self.paths.address}`"
            )
        return changes(before, self.config)

    def _start_from(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """What earlier sweeps know, looked up once, when the sweep begins."""
        if "start_from" in manifest:
            known: Mapping[str, Any] = manifest["start_from"]
            return known
        gathered = gather_prior(self.config, place_of(self.paths.storage.root))
        for line in describe_prior(gathered):
            self.progress.say(line)
        return gathered

    def _note_shape(self, writer: SweepWriter, shape: Shape) -> None:
        manifest = note_shape(SweepFolder(self.paths).manifest, shape)
        writer.write_manifest(manifest)
        if lines := drift(manifest):
            self.progress.say(f"changed since the last run, which may change numbers: {'; '.join(lines)}")

    def _search(
        self, controller: Controller, cluster: Cluster, places: Places, template: TrialSettings
    ) -> str:
        from orchestrator.study.dashboard import dashboard_of
        from orchestrator.trial.shipping import pack_teacher
        from orchestrator.trial.tune import run_trials

        parcels = pack_teacher(template.teacher) if cluster.is_joined else {}
        pace = Pace(time.monotonic, places.room().slots)
        self._stack.enter_context(dashboard_of(self.config.optuna_storage, self.paths, self.progress.say))
        window = self._stack.enter_context(Window(self.paths, self.config, self.progress.say))
        with Vitals(cluster.lost, self._farewell(), signalled=self._exit_code) as vitals:
            watched = Watched(controller, pace, self.progress, window.mirror, vitals)
            watched.show()
            run_trials(watched, places=places, scratch=self.scratch, parcels=parcels)
            watched.show()
        return controller.state.closed or "done"

    def _conclude(self, writer: SweepWriter, reason: str, interrupt: Interrupt) -> Outcome:
        trials = SweepFolder(self.paths).trials()
        unfinished = [trial for trial in trials if trial.result is None]
        finished = (
            "interrupted" if interrupt.caught else "stopped" if self.paths.stop.exists() else "complete"
        )
        writer.write_manifest(SweepFolder(self.paths).manifest | {"finished": finished, "reason": reason})
        if interrupt.exit_code is not None:
            return self._outcome(interrupt.exit_code, f"{finished}; {self._farewell()}")
        if finished == "stopped":
            return self._outcome(0, f"stopped with {len(unfinished)} trial(s) under way; {self._farewell()}")
        if not any(trial.state is TrialState.COMPLETE for trial in trials):
            raise BudgetError(
                f"no trial of {self.paths.name} was completed ({reason}); see the causes with "
                f"`cpsc-orchestrate status {self.paths.address}`, then run "
                f"`cpsc-orchestrate resume {self.paths.address} --failed`, or with --add-trials N"
            )
        causes = {trial.result.cause for trial in trials if trial.result and trial.result.cause}
        return self._outcome(1 if causes - {EndClass.DIVERGED.value} else 0, None)

    def _outcome(self, exit_code: int, message: str | None) -> Outcome:
        return Outcome(exit_code=exit_code, sweep=self.paths, message=message)

    def _ask_to_stop(self) -> None:
        self.paths.stop.touch()
        self.progress.say("stopping: running trials checkpoint and end; press Ctrl-C again to stop now")

    def _farewell(self) -> str:
        cluster = "" if self.address is None else f" --address {self.address}"
        return f"go on with `cpsc-orchestrate resume {self.paths.address}{cluster}`"


def _template(config: SweepConfig, storage: StoragePaths, card: TeacherCard) -> TrialSettings:
    """The settings of a trial before anything is searched."""
    return TrialSettings(
        data=config.data.settings(),
        data_fingerprint=card.data_fingerprint,
        teacher=card.settings(storage.teacher(card.key)),
        student_arch=config.student.arch,
        train=config.train,
    )
