"""One run of a sweep's controller: takes the lease, starts or joins Ray, goes through the stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cpsc_core.card import TeacherCard
from cpsc_core.settings import TrialSettings
from orchestrator.cluster.capacity import Cluster, Places
from orchestrator.cluster.places import Spacious, open_places
from orchestrator.cluster.scratch import new_scratch, remove_scratch
from orchestrator.cluster.session import open_cluster
from orchestrator.cluster.shape import Shape
from orchestrator.config import Experiment, SweepConfig
from orchestrator.controller.controller import Controller
from orchestrator.errors import BudgetError, UnreachableError, UsageError
from orchestrator.manifest import drift, extend_budget, note_shape, note_teacher
from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.store.folder import SweepFolder
from orchestrator.store.ownership import Ownership, own
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.relay import Relay, forget_stop
from orchestrator.store.space import Space, make_room, storage_fails
from orchestrator.store.working_copy import copy_of, place_of, refresh
from orchestrator.store.writer import SweepWriter
from orchestrator.sweep.board import Pace
from orchestrator.sweep.interrupt import Interrupt
from orchestrator.sweep.log import logging_to
from orchestrator.sweep.preparation import prepare
from orchestrator.sweep.progress import Progress
from orchestrator.sweep.reopen import Reopen
from orchestrator.sweep.teacher_stage import teacher_stage
from orchestrator.sweep.vitals import Vitals
from orchestrator.sweep.watched import Watched
from orchestrator.sweep.window import Window

__all__ = ["Outcome", "Run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep command ended."""

    exit_code: int
    """0 done, 1 a trial failed for a cause other than diverged, 130 or 143 interrupted."""
    sweep: SweepPaths
    """Where the sweep lies."""
    message: str | None = None
    """What happened and the next command, unless all went well."""


class Run:
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
        self._trials_to_add = 0
        self._space = Space(paths, progress.say, self._is_stopping)
        self._stack = ExitStack()
        self._exit_code: Callable[[], int | None] = lambda: None

    def carry_out(self, reopen: Reopen, *, add_trials: int, takeover: bool) -> Outcome:
        """Run until nothing is left to do, a signal comes, or a stop is asked for; raises as `run_sweep`."""
        self._trials_to_add = add_trials
        is_remote = copy_of(self.paths.root) is not None
        if is_remote and self.config.tracking.uri is None:
            raise UsageError(
                f"storage in a bucket, {self.paths.storage.address}, has no place for MLflow's database: set "
                "tracking.uri to the server that is to show the sweep"
            )
        make_room(self.paths.trials, self.paths.storage.root)
        try:
            return self._own(reopen, takeover=takeover)
        except OSError as error:
            if is_remote and not self.paths.root.exists():
                raise UnreachableError(
                    f"the working copy of {self.paths.address} was removed while it was in use; "
                    f"what was finished is kept: {self._farewell()}"
                ) from error
            if not storage_fails(error):
                raise
            message = (
                f"the storage of {self.paths.root} fails: {error.strerror}; what was finished is kept: "
                f"see to it, then {self._farewell()}"
            )
            if (code := self._exit_code()) is not None:  # who did not want to wait for room on a full disk
                return self._outcome(code, message)
            raise UnreachableError(message) from error

    def _own(self, reopen: Reopen, *, takeover: bool) -> Outcome:
        with self._stack as stack:
            note = {"scratch": str(self.scratch)}
            lease = stack.enter_context(own(self.paths, note=note, takeover=takeover))
            forget_stop(self.paths, lease)  # from here on a request to stop is meant for this run
            refresh(self.paths.root)  # what others did before it was ours, and nothing that never counted
            if isinstance(stale := lease.previous.get("scratch"), str) and not lease.fences:
                remove_scratch(Path(stale))
            remove_stale_drafts(self.paths.root)
            writer = SweepWriter(self.paths, lease, self._space.wait)
            stack.enter_context(logging_to(self.paths.log))
            stack.enter_context(Relay(self.paths, lease))
            prepare(self.experiment, writer, reopen, self.progress.say)
            interrupt = stack.enter_context(Interrupt(self._ask_to_stop, self._farewell))
            self._exit_code = lambda: interrupt.exit_code
            try:
                reason = self._stages(writer)
            except UnreachableError as error:
                if interrupt.caught is None:
                    raise
                reason = str(error)  # a signal to every process of a job takes Ray along
            remove_stale_drafts(self.paths.root)  # of ranks that were killed on the way
            return self._conclude(writer, reason, interrupt)

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
            self._note_teacher(writer, card)
            template = _template(self.config, self.paths.storage, card)
            controller = Controller(self.config, template, writer, shape)
            return self._search(controller, writer.lease, cluster, places, template)

    def _note_shape(self, writer: SweepWriter, shape: Shape) -> None:
        manifest = note_shape(SweepFolder(self.paths).manifest, shape)
        writer.write_manifest(manifest)
        if lines := drift(manifest):
            self.progress.say(f"changed since the last run, which may change numbers: {'; '.join(lines)}")

    def _note_teacher(self, writer: SweepWriter, card: TeacherCard) -> None:
        """Note it, and with it the trials to add: from here on nothing can be refused any more."""
        manifest = note_teacher(SweepFolder(self.paths).manifest, card)
        manifest = extend_budget(manifest, self._trials_to_add)
        writer.write_manifest(manifest)
        self._trials_to_add = 0
        self.config = self.config.with_trials(manifest["budget_trials"])

    def _search(
        self,
        controller: Controller,
        lease: Ownership,
        cluster: Cluster,
        places: Places,
        template: TrialSettings,
    ) -> str:
        from orchestrator.study.dashboard import dashboard_of
        from orchestrator.trial.shipping import pack_teacher
        from orchestrator.trial.tune import run_trials

        parcels = pack_teacher(template.teacher) if cluster.is_joined else {}
        pace = Pace(time.monotonic, places.room().slots)
        self._stack.enter_context(dashboard_of(self.config.optuna_storage, self.paths, self.progress.say))
        window = self._stack.enter_context(Window(self.paths, self.config, lease, self.progress.say))
        with Vitals(cluster.lost, self._farewell(), signalled=self._exit_code) as vitals:
            watched = Watched(controller, pace, self.progress, window.mirror, vitals)
            watched.show()
            roomy = Spacious(places, self._space)
            run_trials(watched, places=roomy, scratch=self.scratch, parcels=parcels)
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

    def _is_stopping(self) -> bool:
        return self._exit_code() is not None or self.paths.stop.exists()

    def _farewell(self) -> str:
        cluster = "" if self.address is None else f" --address {self.address}"
        more = f" --add-trials {self._trials_to_add}" if self._trials_to_add else ""
        return f"go on with `cpsc-orchestrate resume {self.paths.address}{cluster}{more}`"


def _template(config: SweepConfig, storage: StoragePaths, card: TeacherCard) -> TrialSettings:
    """The settings of a trial before anything is searched."""
    return TrialSettings(
        data=config.data.settings(),
        data_fingerprint=card.data_fingerprint,
        teacher=card.settings(storage.teacher(card.key)),
        student_arch=config.student.arch,
        train=config.train,
    )
