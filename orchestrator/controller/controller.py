"""The controller: applies the decisions to the real world, and writes down what happened before it acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cpsc_core.attempt import CLOCK_KEYS
from cpsc_core.settings import TrialSettings
from orchestrator import decide as d
from orchestrator.cluster.shape import Shape
from orchestrator.config import SweepConfig, apply
from orchestrator.controller.last_words import explain
from orchestrator.controller.planned import confirm_records, duplicate_record, search_record
from orchestrator.controller.recovery import describe_cause, is_final, recover
from orchestrator.controller.retention import trim
from orchestrator.controller.rules import rules_of
from orchestrator.outcome import Verdict, judge, summarise
from orchestrator.ranking import rank
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, EndClass, Result, TrialState
from orchestrator.store.working_copy import place_of, refresh
from orchestrator.store.writer import SweepWriter
from orchestrator.study.prior import read_prior
from orchestrator.study.search import Suggestion
from orchestrator.study.study import Study
from orchestrator.trial.assignment import Assignment

__all__ = ["Controller"]


class Controller:
    """One sweep under way: what Tune carries out (`orchestrator.trial.tune.Orders`).

    The folders are read once, when the controller is made; from then on it is their only writer.
    """

    def __init__(
        self,
        config: SweepConfig,
        template: TrialSettings,
        writer: SweepWriter,
        shape: Shape,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.study = Study(config, read_prior(SweepFolder(writer.paths).manifest))
        self.finished = False
        self._template = template
        self._writer = writer
        self._shape = shape
        self._clock = clock
        recovered = recover(writer, self.study, rules_of(config))
        self.state = recovered.state
        self.newest = recovered.newest
        self.causes = recovered.causes
        self.objectives = recovered.objectives
        self._awaiting = recovered.awaiting
        self._excused = {trial.name: trial.reopened_at for trial in recovered.unfinished}
        for trial in recovered.unfinished:
            self._settle(trial)

    @property
    def paths(self) -> SweepPaths:
        """Where the sweep lies."""
        return self._writer.paths

    def tick(self) -> None:
        """Notice a request to stop; raises FencedError if the sweep has been taken over."""
        self._writer.lease.check()
        if not self.state.stopping and self.paths.stop.exists():
            self._decide(d.Closed("stopped", stopping=True))
        self.finished = self.finished or (self.state.stopping and not self.state.live)

    def hand_out(self) -> Assignment | None:
        """The next attempt to run; None if there is none now, or none any more if `finished`."""
        self.tick()
        while True:
            (action,) = self._decide(d.SlotFree(self._clock()))
            match action:
                case d.RunTrial():
                    return self._assign(action)
                case d.AskStudy(number):
                    self._ask(number)
                case d.PlanConfirm():
                    self._plan_confirm()
                case d.Finish():
                    self.finished = True
                    return None
                case _:
                    return None

    def hear_line(self, assignment: Assignment, line: dict[str, Any]) -> bool:
        """Take note of a finished epoch; whether the trial goes on. A prune is durable before it acts."""
        self._refresh(assignment)
        self.newest[assignment.name] = line
        return not self._prune_if_due(assignment.name, line, assignment.attempt)

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        """Take note of an attempt's end, and decide whether the trial is tried again."""
        self._refresh(assignment)
        trial = self._read(assignment.name)
        if is_final(trial):
            ended, cause = EndClass.COMPLETE, None  # whatever died then had nothing left to do
        if trial.history:
            self.newest[trial.name] = trial.history[-1]
        if trial.record.number is not None and trial.result is None:
            self.study.catch_up(trial.record.number, trial)
            if not is_final(trial) and self._prune_late(trial, assignment.attempt):
                ended, cause = EndClass.PRUNED, None
        end = AttemptEnd(
            ended=ended,
            cause=cause,
            node=node,
            seconds=trial.attempt_seconds(assignment.attempt),
            gpus=assignment.shape.all_gpus,
        )
        if ended.is_failure:
            end = explain(end, trial.paths.attempt(assignment.attempt), trace)
            self.causes[assignment.name] = f"{ended}: {end.cause}"
        self._writer.write_end(assignment.name, assignment.attempt, end)
        self._conclude(trial, assignment.attempt, end, recomputed=assignment.recompute)

    def _decide(self, event: d.Event) -> tuple[d.Action, ...]:
        self.state, actions = d.decide(self.state, event)
        return actions

    def _conclude(
        self, trial: TrialFolder, attempt: int, end: AttemptEnd, *, recomputed: bool = False
    ) -> None:
        verdict = self._judge(trial) if end.ended is EndClass.COMPLETE else None
        if verdict is not None and verdict.unmeasured is not None:
            cause = f"{verdict.unmeasured} is not finite after the last epoch"
            end = replace(end, ended=EndClass.DIVERGED, cause=cause)
        event = d.Ended(
            name=trial.name,
            ended=end.ended,
            now=self._clock(),
            detail=end.cause,
            seconds=end.seconds,
            gpu_seconds=end.seconds * end.gpus,
            fingerprint=end.fingerprint,
            recomputed=recomputed or bool(trial.record.settings["train"].get("recompute")),
            objective=verdict.score if verdict else None,
        )
        self._commit(self._decide(event), attempt)

    def _commit(self, actions: Sequence[d.Action], attempt: int) -> None:
        for action in actions:
            if isinstance(action, d.Commit):
                self._write_result(action, attempt)

    def _write_result(self, commit: d.Commit, attempt: int) -> None:
        trial = self._read(commit.name)
        verdict = self._judge(trial) if commit.state is TrialState.COMPLETE else None
        end = trial.ends.get(attempt) if commit.state is TrialState.FAILED else None
        result = Result(
            state=commit.state,
            objective=next(iter(verdict.objectives.values())) if verdict else None,
            objectives=verdict.objectives if verdict else {},
            excess=verdict.excess if verdict else {},
            params=trial.record.params,
            metrics=self._summary(trial),
            timing={
                "seconds": trial.seconds,
                "gpu_seconds": trial.gpu_seconds,
                "ended": self._clock(),
                **{name: value for name, value in trial.costs.items() if name in CLOCK_KEYS},
            },
            cause=commit.cause,
            detail=commit.detail,
            attempt=trial.written or attempt,
            generation=self._writer.lease.generation,
            node=end.node if end else None,
            lines=end.lines if end else [],
            stack=end.stack if end else [],
        )
        self._writer.write_result(commit.name, result)
        self.causes[commit.name] = describe_cause(result)
        self.objectives[commit.name] = result.objective
        finished = self._read(commit.name)
        trim(finished, self._writer.lease)
        self._tell_study(finished)

    def _tell_study(self, trial: TrialFolder) -> None:
        if trial.record.number is None:
            return
        self.study.tell(trial.record.number, trial)
        for duplicate in self._awaiting.pop(trial.name, []):
            self.study.copy(duplicate, trial)

    def _ask(self, number: int) -> None:
        suggestion = self.study.suggest(number)
        if suggestion is None:
            self._decide(d.Closed(f"space exhausted after {number} suggestions"))
            return
        settings = apply(self._template, suggestion.params)
        name = settings.identity()
        if name in self.state.trials:
            self._note_duplicate(suggestion, name)
        else:
            self._writer.write_trial(search_record(suggestion, settings, **self._stamp()))
            self._decide(d.Suggested(name))

    def _note_duplicate(self, suggestion: Suggestion, name: str) -> None:
        generation = self._writer.lease.generation
        self._writer.write_duplicate(duplicate_record(suggestion, name, generation))
        self._decide(d.Duplicated(name))
        trial = self._read(name)
        if trial.result is None:
            self._awaiting.setdefault(name, []).append(suggestion.number)
        else:
            self.study.copy(suggestion.number, trial)

    def _plan_confirm(self) -> None:
        trials = SweepFolder(self.paths).trials()
        best = rank(trials, self.config.objectives)[: self.config.confirm.top]
        records = confirm_records(best, self.config.confirm.seeds, **self._stamp())
        for record in records:
            self._writer.write_trial(record)
        self._decide(d.Confirmed(tuple(record.name for record in records)))

    def _stamp(self) -> dict[str, Any]:
        """What is put on the record of every trial."""
        return {"created": self._clock(), "generation": self._writer.lease.generation}

    def _assign(self, action: d.RunTrial) -> Assignment:
        trial = self._read(action.name)
        self._writer.begin_attempt(action.name, action.attempt)
        return Assignment(
            name=action.name,
            attempt=action.attempt,
            folder=str(place_of(trial.paths.root)),
            settings=trial.record.settings,
            shape=self._shape,
            stop_file=str(place_of(self.paths.stop)),
            hang_seconds=self.config.hang.seconds,
            recompute=action.recompute,
        )

    def _prune_if_due(self, name: str, line: dict[str, Any], attempt: int) -> bool:
        """End a trial early if the pruner says so after an epoch; whether it did.

        A trial that was tried again has been judged up to where it stood.
        """
        number, epoch = self.state.trials[name].number, line["epoch"]
        prune = number is not None and self.study.report(number, line) and epoch > self._excused.get(name, 0)
        detail = f"pruned after epoch {epoch} by {self.config.pruner.name}" if prune else None
        actions = self._decide(d.Reported(name, prune, detail))
        self._commit(actions, attempt)
        return bool(actions)

    def _prune_late(self, trial: TrialFolder, attempt: int) -> bool:
        """Likewise after the last epoch, which nobody may have heard of when it was written."""
        return bool(trial.history) and self._prune_if_due(trial.name, trial.history[-1], attempt)

    def _judge(self, trial: TrialFolder) -> Verdict:
        return judge(trial.history, trial.costs, self.config.objectives, self.config.bounds)

    def _summary(self, trial: TrialFolder) -> dict[str, Any]:
        accuracy = self._template.teacher.accuracy
        return summarise(trial.history, trial.costs, self.config.objectives, accuracy)

    def _read(self, name: str) -> TrialFolder:
        trial = TrialFolder.read(self.paths.trial(name))
        if trial is None:
            raise FileNotFoundError(f"trial {name} has lost its record {self.paths.trial(name).record}")
        return trial

    def _refresh(self, assignment: Assignment) -> None:
        """See what an attempt has written, where its machine and this one share a bucket and no folder."""
        refresh(self.paths.trial(assignment.name).attempt(assignment.attempt).root)

    def _settle(self, trial: TrialFolder) -> None:
        """Decide now what a dying controller left undecided: a last epoch, or a rung."""
        if not trial.attempts:
            return
        newest = trial.attempts[-1]
        if is_final(trial):
            end = AttemptEnd(ended=EndClass.COMPLETE, seconds=0.0)
            self._conclude(trial, newest, end)
        elif self._prune_late(trial, newest):
            self._decide(d.Ended(name=trial.name, ended=EndClass.PRUNED, now=self._clock()))
