"""The mirror of one sweep: which folders have changed, and where each is shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackingError
from orchestrator.mirror.ledger import Entry, locked, look, read_entry, stamp, write_entry
from orchestrator.mirror.overview import sweep_overview
from orchestrator.mirror.reconcile import Synced, bring_up, create
from orchestrator.mirror.registry import register_best
from orchestrator.mirror.tracker import HeldRun, RunStatus, Tracker
from orchestrator.mirror.uri import artifacts_beside, check_uri, public_uri
from orchestrator.mirror.wanted import (
    SWEEP_TAG,
    TRIAL_TAG,
    WantedRun,
    digest,
    params_key,
    provenance,
    sweep_inputs,
    sweep_run,
    trial_run,
    versions,
)
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.ownership import owner_of
from orchestrator.store.paths import SweepPaths, TrialPaths
from orchestrator.store.records import TrialRecord

__all__ = ["Mirror"]

_SECONDS_BETWEEN_OVERVIEWS = 60.0
_INPUTS = "<inputs>"
"""What stands for a run's inputs among the digests of its files."""

Connect = Callable[[str, str, Path | None], Tracker]
"""Opens an experiment: tracking URI, name, folder for images."""


class Mirror:
    """One sweep on one tracking server: an experiment, a run for the sweep, and below it a run per trial.

    The folders are read, the server is asked what it holds, and the difference is sent. What was sent is
    noted in mirror.json, so that a folder which has not changed since is not read again. Of two processes
    that mirror one sweep, one waits for the other; within a process it is one thread's business.
    """

    def __init__(
        self, uri: str, sweep: SweepPaths, *, artifacts: Path | None = None, connect: Connect | None = None
    ) -> None:
        """A mirror of `sweep` at `uri`; nothing is opened yet.

        `artifacts` is the folder that keeps the images. Without it they lie beside an SQLite database, or
        wherever a server wants them. Raises ConfigError if the URI carries credentials.
        """
        self._uri = check_uri(uri)
        self._folder = SweepFolder(sweep)
        self._artifacts = artifacts or artifacts_beside(uri)
        self._connect = connect or _open_mlflow
        self._tracker: Tracker | None = None
        self._sweep_held: HeldRun | None = None
        self._held: dict[str, HeldRun] = {}
        self._settled: dict[str, str] = {}
        self._done: dict[str, Mapping[str, str]] = {}
        self._owned: bool | None = None
        self._next_overview = 0.0

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self._folder.name

    @property
    def address(self) -> str:
        """The sweep as commands are told of it."""
        return self._folder.paths.address

    def sync(self) -> Synced:
        """Send what the server lacks; called again, it sends nothing.

        What is unfinished is shown as running while a living controller owns the sweep. Raises
        UnreachableError if the server does not answer, and TrackingError, once everything else was sent, if
        it refuses something.
        """
        return self._sync(RunStatus.RUNNING if self._is_owned() else self._last_status())

    def close(self, status: RunStatus | None = None) -> Synced:
        """Send what the server lacks, and show the sweep as ended although its lease may still be held.

        Without a status it is finished if every trial has a result and nobody asked for a stop, else killed.
        Raises what `sync` raises.
        """
        is_whole = not self._folder.paths.stop.exists() and all(
            each.result.exists() for each in self._trials()
        )
        synced = self._sync(status or (RunStatus.FINISHED if is_whole else RunStatus.KILLED))
        self._forget()
        return synced

    def register_best(self) -> dict[str, str] | None:
        """Put the best student of a finished sweep into the model registry; its name and version there.

        None if the sweep has not finished, has no best student, or has it there already. Raises
        UnreachableError if MLflow does not take it.
        """
        with locked(self._folder.paths.mirror):
            return register_best(self._folder, self._uri)

    def backlog(self) -> int:
        """Trials of which something is not mirrored yet. Asks the folders, not the server."""
        owned = self._is_owned() if self._owned is None else self._owned
        origin = provenance(self._folder.manifest)
        return sum(self._noted(paths) != _seen(paths, origin, owned) for paths in self._trials())

    def _sync(self, status: RunStatus) -> Synced:
        sent: Counter[str] = Counter()
        self._owned = status is RunStatus.RUNNING
        try:
            with locked(self._folder.paths.mirror):
                tracker = self._open()
                parent = self._mirror_sweep(tracker, status, sent)
                self._mirror_trials(tracker, parent, sent)
                self._mirror_overview(tracker, status, sent)
        except BaseException:
            # Whether the last request was carried out is not known: the server will be asked again.
            self._forget()
            raise
        return Synced(**sent)

    def _open(self) -> Tracker:
        if self._tracker is not None and not self._tracker.is_alive():
            self._forget()
        if self._tracker is None:
            self._tracker = self._connect(self._uri, self._folder.name, self._artifacts)
            self._look_up(self._tracker, since=0)
        return self._tracker

    def _forget(self) -> None:
        if self._tracker is not None:
            self._tracker.close()
        self._tracker = self._sweep_held = None
        self._held, self._settled, self._done = {}, {}, {}

    def _look_up(self, tracker: Tracker, since: int) -> None:
        """Learn which runs of this sweep the server holds; one in the bin counts if there is no other."""
        sweep = provenance(self._folder.manifest)[SWEEP_TAG]
        for run in sorted(tracker.find(SWEEP_TAG, sweep, since), key=lambda run: (run.deleted, run.run_id)):
            if (trial := run.tags.get(TRIAL_TAG)) is not None:
                self._held.setdefault(trial, run)
            elif self._sweep_held is None:
                self._sweep_held = run

    def _mirror_sweep(self, tracker: Tracker, status: RunStatus, sent: Counter[str]) -> str:
        """The id of the sweep's own run, which is there and up to date afterwards."""
        held = self._sweep_held
        ends_now = status.is_final and (held is None or held.status is not status)
        wanted = sweep_run(self.name, self._folder.manifest, status, self._last_end() if ends_now else None)
        self._sweep_held = held = held or create(tracker, wanted, sent)
        self._remember(self._folder.paths.mirror, held)
        bring_up(tracker, held, wanted, sent)
        return held.run_id

    def _mirror_overview(self, tracker: Tracker, status: RunStatus, sent: Counter[str]) -> None:
        """What the sweep's own run carries; while trials run, it is made anew only now and then."""
        held, path = self._sweep_held, self._folder.paths.mirror
        if held is None:
            raise RuntimeError("the sweep's own run is mirrored before what it carries")
        seen = digest(sorted(self._settled.items()), stamp(self._folder.paths.report), status)
        entry = read_entry(path, public_uri(self._uri))
        is_early = not status.is_final and time.monotonic() < self._next_overview
        if is_early or (entry is not None and (entry.run_id, entry.seen) == (held.run_id, seen)):
            return
        overview = sweep_overview(self._folder, ended=status.is_final)
        if (inputs := sweep_inputs(self._folder)) is not None and held.files.get(_INPUTS) != str(inputs):
            tracker.note_inputs(held.run_id, inputs)
            held.files[_INPUTS] = str(inputs)
        manifest = self._folder.manifest
        wanted = sweep_run(self.name, manifest, status, None, note=overview.note, files=overview.files)
        bring_up(tracker, held, wanted, sent)
        self._note(path, held, seen)
        self._next_overview = time.monotonic() + _SECONDS_BETWEEN_OVERVIEWS

    def _remember(self, path: Path, held: HeldRun) -> None:
        """What a run was sent before: the server is not asked for files, which replace themselves."""
        entry = read_entry(path, public_uri(self._uri))
        if entry is not None and entry.run_id == held.run_id:
            held.files = entry.files | held.files

    def _mirror_trials(self, tracker: Tracker, parent: str, sent: Counter[str]) -> None:
        manifest = self._folder.manifest
        origin = provenance(manifest)
        changed = self._changed(origin)
        fresh = [trial.record.created for trial, _ in changed if trial.name not in self._held]
        if fresh:
            self._look_up(tracker, since=int(min(fresh) * 1000))
        refused: list[TrackingError] = []
        while changed:
            # A trial is let go of once it is mirrored: the histories of a large sweep do not fit in memory.
            trial, seen = changed.pop()
            try:
                self._mirror_trial(tracker, trial, self._wanted(trial, parent, manifest), sent)
            except TrackingError as error:
                refused.append(error)
            else:
                self._note(trial.paths.mirror, self._held[trial.name], seen)
                self._settled[trial.name] = seen
                if self._owned and trial.result is not None:
                    self._done[trial.name] = origin
        if refused:
            raise refused[0]

    def _mirror_trial(
        self, tracker: Tracker, trial: TrialFolder, wanted: WantedRun, sent: Counter[str]
    ) -> None:
        held = self._held.get(trial.name) or create(tracker, wanted, sent)
        self._held[trial.name] = held
        self._remember(trial.paths.mirror, held)
        bring_up(tracker, held, wanted, sent)

    def _wanted(self, trial: TrialFolder, parent: str, manifest: Mapping[str, Any]) -> WantedRun:
        written = trial.result or trial.record
        return trial_run(
            trial,
            parent=parent,
            origin=provenance(manifest) | versions(manifest, written.generation),
            owned=bool(self._owned),
            confirms=self._confirms(trial.record),
        )

    def _changed(self, origin: Mapping[str, str]) -> list[tuple[TrialFolder, str]]:
        """Trials that must be read, newest first, each with what its folder looked like before.

        A trial that was mirrored with its result is looked at again only once the sweep has ended: looking at
        every folder each time would cost a trial the more, the more there are.
        """
        changed = []
        if not self._owned:
            self._done.clear()
        for paths in self._trials():
            if self._done.get(paths.root.name) == origin:
                continue
            has_ended = paths.result.exists()
            seen = _seen(paths, origin, bool(self._owned))
            if self._is_settled(paths, seen):
                self._settled[paths.root.name] = seen
                if self._owned and has_ended:
                    self._done[paths.root.name] = origin
            elif (trial := TrialFolder.read(paths)) is not None:
                changed.append((trial, seen))
        return sorted(changed, key=lambda each: (each[0].record.created, each[0].name), reverse=True)

    def _is_settled(self, paths: TrialPaths, seen: str) -> bool:
        name = paths.root.name
        if name in self._settled:
            return self._settled[name] == seen
        entry = read_entry(paths.mirror, public_uri(self._uri))
        return entry is not None and entry.seen == seen and entry.matches(self._held.get(name))

    def _trials(self) -> Iterator[TrialPaths]:
        """The trials, whatever else lies among them."""
        folder = self._folder.paths.trials
        found = map(TrialPaths, folder.iterdir() if folder.is_dir() else ())
        return (trial for trial in found if trial.record.exists())

    def _noted(self, paths: TrialPaths) -> str | None:
        if (seen := self._settled.get(paths.root.name)) is not None:
            return seen
        entry = read_entry(paths.mirror, public_uri(self._uri))
        return entry.seen if entry else None

    def _note(self, path: Path, held: HeldRun, seen: str) -> None:
        entry = Entry(
            run_id=held.run_id,
            status=held.status,
            epoch=held.epoch,
            images=sorted(held.images or ()),
            seen=seen,
            files=held.files,
        )
        if read_entry(path, public_uri(self._uri)) != entry:
            write_entry(path, public_uri(self._uri), entry)

    def _confirms(self, record: TrialRecord) -> int | None:
        """Number of the search trial that a confirm trial repeats; None for a search trial."""
        return self._numbers.get(params_key(record)) if record.number is None else None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Numbers of the search trials; all those that are confirmed exist before the first confirm trial."""
        records = (trial.record for trial in self._folder.trials())
        return {params_key(record): record.number for record in records if record.number is not None}

    def _is_owned(self) -> bool:
        return owner_of(self._folder.paths) is not None

    def _last_status(self) -> RunStatus:
        """How a sweep ended that no controller owns any more; a killed controller leaves no word."""
        finished = self._folder.manifest.get("finished")
        return RunStatus.FINISHED if finished == "complete" else RunStatus.KILLED

    def _last_end(self) -> int | None:
        """When the last of its trials ended, in Unix milliseconds; None before the first did."""
        results = (trial.result for trial in self._folder.trials())
        ends = [result.timing["ended"] for result in results if result and "ended" in result.timing]
        return round(max(ends) * 1000) if ends else None


def _seen(paths: TrialPaths, origin: Mapping[str, str], owned: bool) -> str:
    """Digest of everything a trial's run is made from, without reading a file of the trial."""
    return digest(look(paths), origin, owned and not paths.result.exists())


def _open_mlflow(uri: str, experiment: str, artifacts: Path | None) -> Tracker:
    # MLflow takes seconds to import, and only a process that mirrors needs it.
    from orchestrator.mirror.door import open_mlflow

    return open_mlflow(uri, experiment, artifacts)
