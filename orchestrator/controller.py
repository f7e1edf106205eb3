"""The controller: applies the decisions to the real world, and writes down what happened before it acts."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpsc_core.settings import TrialSettings
from orchestrator import decide as d
from orchestrator.config import SweepConfig, resolve
from orchestrator.outcome import objective_value, summarise
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, Duplicate, EndClass, Result, Stage, TrialRecord, TrialState
from orchestrator.store.writer import SweepWriter
from orchestrator.study import Study, Suggestion
from orchestrator.trial.assignment import Assignment, Shape

__all__ = ["Controller"]

_LOG_LINES = 50


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
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.study = Study(config)
        self.finished = False
        self._template = template
        self._writer = writer
        self._shape = shape
        self._clock = clock
        self._on_change = on_change
        self._awaiting: dict[str, list[int]] = {}
        self.newest: dict[str, dict[str, Any]] = {}
        self.causes: dict[str, str] = {}
        self.state = d.State(rules=_rules(config))
        self._load(SweepFolder(writer.paths))

    @property
    def paths(self) -> SweepPaths:
        """Where the sweep lies."""
        return self._writer.paths

    def tick(self) -> None:
        """Notice a request to stop."""
        if not self.state.stopping and self.paths.stop.exists():
            self._decide(d.Closed("stopped", stopping=True))

    def hand_out(self) -> Assignment | None:
        """The next attempt to run; None if there is none now, or none any more if `finished`."""
        self.tick()
        while True:
            (action,) = self._decide(d.SlotFree(self._clock()))
            match action:
                case d.RunTrial(name, attempt):
                    return self._assign(name, attempt)
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
        name = assignment.name
        self.newest[name] = line
        prune = self._should_prune(name, line)
        detail = f"pruned after epoch {line['epoch']} by {self.config.pruner.name}" if prune else None
        actions = self._decide(d.Reported(name, prune, detail))
        self._commit(actions, assignment.attempt)
        self._on_change()
        return not actions

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        """Take note of an attempt's end, and decide whether the trial is tried again."""
        trial = self._read(assignment.name)
        seconds = trial.attempt_seconds(assignment.attempt)
        log = trial.paths.attempt(assignment.attempt).log
        lines = trace or (_tail(log) if ended.is_failure else [])
        end = AttemptEnd(ended=ended, cause=cause, node=node, seconds=seconds, lines=lines)
        self._writer.write_end(assignment.name, assignment.attempt, end)
        if ended.is_failure:
            self.causes[assignment.name] = f"{ended}: {cause}"
        self._conclude(trial, assignment.attempt, end)

    def stop(self, reason: str) -> None:
        """Start nothing more; what runs is asked to checkpoint by the stop file."""
        self._decide(d.Closed(reason, stopping=True))

    def _decide(self, event: d.Event) -> tuple[d.Action, ...]:
        self.state, actions = d.decide(self.state, event)
        return actions

    def _conclude(self, trial: TrialFolder, attempt: int, end: AttemptEnd) -> None:
        objective = self._objective(trial) if end.ended is EndClass.COMPLETE else None
        event = d.Ended(
            name=trial.name,
            ended=end.ended,
            now=self._clock(),
            detail=end.cause,
            seconds=end.seconds,
            objective=objective,
        )
        self._commit(self._decide(event), attempt)
        self._on_change()

    def _commit(self, actions: Sequence[d.Action], attempt: int) -> None:
        for action in actions:
            if isinstance(action, d.Commit):
                self._write_result(action, attempt)

    def _write_result(self, commit: d.Commit, attempt: int) -> None:
        trial = self._read(commit.name)
        complete = commit.state is TrialState.COMPLETE
        result = Result(
            state=commit.state,
            objective=self._objective(trial) if complete else None,
            params=trial.record.params,
            metrics=self._summary(trial),
            timing={"seconds": trial.seconds, "ended": self._clock()},
            cause=commit.cause,
            detail=commit.detail,
            attempt=attempt,
            generation=self._writer.lease.generation,
        )
        self._writer.write_result(commit.name, result)
        self.causes[commit.name] = _cause(result)
        self._tell_study(self._read(commit.name))

    def _tell_study(self, trial: TrialFolder) -> None:
        number, result = trial.record.number, trial.result
        if number is None or result is None:
            return
        if result.state is TrialState.COMPLETE:
            last = trial.history[-1]
            self.study.note(number, last["epoch"], float(last[self.config.objective.metric]))
        self.study.tell(number, result.state, result.objective, result.cause)
        for duplicate in self._awaiting.pop(trial.name, []):
            self.study.copy(duplicate, trial)

    def _ask(self, number: int) -> None:
        suggestion = self.study.suggest(number)
        if suggestion is None:
            self._decide(d.Closed(f"space exhausted after {number} suggestions"))
            return
        train = resolve(self.config, suggestion.params)
        settings = replace(self._template, train=train)
        name = settings.identity()
        if name in self.state.trials:
            self._note_duplicate(suggestion, name)
        else:
            self._writer.write_trial(self._record(name, suggestion, settings))
            self._decide(d.Suggested(name))

    def _note_duplicate(self, suggestion: Suggestion, name: str) -> None:
        duplicate = Duplicate(
            number=suggestion.number,
            name=name,
            params=suggestion.params,
            distributions=suggestion.distributions,
            system_attrs=suggestion.system_attrs,
            generation=self._writer.lease.generation,
        )
        self._writer.write_duplicate(duplicate)
        self._decide(d.Duplicated(name))
        trial = self._read(name)
        if trial.result is None:
            self._awaiting.setdefault(name, []).append(suggestion.number)
        else:
            self.study.copy(suggestion.number, trial)

    def _plan_confirm(self) -> None:
        """Write the confirm trials: the best configurations again, with fresh seeds and the test split."""
        names = []
        for trial in self._best(self.config.confirm.top):
            settings = TrialSettings.from_dict(trial.record.settings)
            for offset in range(1, self.config.confirm.seeds + 1):
                again = _confirming(settings, settings.train.seed + offset)
                record = replace(
                    trial.record,
                    name=again.identity(),
                    number=None,
                    stage=Stage.CONFIRM,
                    system_attrs={},
                    settings=again.to_dict(),
                    created=self._clock(),
                    generation=self._writer.lease.generation,
                )
                self._writer.write_trial(record)
                names.append(record.name)
        self._decide(d.Confirmed(tuple(names)))

    def _best(self, top: int) -> list[TrialFolder]:
        """The best complete search trials, ties by number."""
        sign = -1.0 if self.config.objective.direction == "maximize" else 1.0
        ranked = [
            (sign * trial.result.objective, trial.record.number, trial)
            for trial in SweepFolder(self.paths).trials()
            if trial.record.number is not None and trial.result and trial.result.objective is not None
        ]
        return [trial for _, _, trial in sorted(ranked, key=lambda entry: entry[:2])[:top]]

    def _record(self, name: str, suggestion: Suggestion, settings: TrialSettings) -> TrialRecord:
        return TrialRecord(
            name=name,
            number=suggestion.number,
            stage=Stage.SEARCH,
            params=suggestion.params,
            distributions=suggestion.distributions,
            system_attrs=suggestion.system_attrs,
            settings=settings.to_dict(),
            created=self._clock(),
            generation=self._writer.lease.generation,
        )

    def _assign(self, name: str, attempt: int) -> Assignment:
        trial = self._read(name)
        self._on_change()
        return Assignment(
            name=name,
            attempt=attempt,
            folder=str(trial.paths.root),
            settings=trial.record.settings,
            shape=self._shape,
            stop_file=str(self.paths.stop),
            hang_seconds=self.config.hang.seconds,
        )

    def _should_prune(self, name: str, line: dict[str, Any]) -> bool:
        number = self.state.trials[name].number
        value = float(line[self.config.objective.metric])
        return number is not None and self.study.report(number, line["epoch"], value)

    def _objective(self, trial: TrialFolder) -> float | None:
        objective = self.config.objective
        return objective_value(trial.history, objective.metric, objective.direction, objective.of)

    def _summary(self, trial: TrialFolder) -> dict[str, Any]:
        objective = self.config.objective
        accuracy = self._template.teacher.accuracy
        return summarise(trial.history, objective.metric, objective.direction, accuracy)

    def _read(self, name: str) -> TrialFolder:
        trial = TrialFolder.read(self.paths.trial(name))
        if trial is None:
            raise FileNotFoundError(f"trial {name} has lost its record {self.paths.trial(name).record}")
        return trial

    def _load(self, folder: SweepFolder) -> None:
        """Take over what earlier runs left: finished trials as they are, unfinished ones to be continued."""
        trials = folder.trials()
        by_name = {trial.name: trial for trial in trials}
        for trial in trials:
            self._close_attempts(trial)
        entries: dict[int, TrialFolder | Duplicate] = {each.number: each for each in folder.duplicates()}
        entries |= {trial.record.number: trial for trial in trials if trial.record.number is not None}
        for number in sorted(entries):
            self._enter(entries[number], by_name)
        self.causes = {trial.name: _cause(trial.result) for trial in trials if trial.result}
        self.newest = {trial.name: trial.history[-1] for trial in trials if trial.history}
        self.state = _standing_state(
            self.state, [self._read(trial.name) for trial in trials], max(entries, default=-1) + 1
        )
        for trial in trials:
            if trial.result is None:
                self._settle(trial)

    def _enter(self, entry: TrialFolder | Duplicate, by_name: dict[str, TrialFolder]) -> None:
        if isinstance(entry, TrialFolder):
            self.study.restore(entry)
            return
        original = by_name[entry.name]
        self.study.restore_duplicate(entry, original)
        if original.result is None:
            self._awaiting.setdefault(entry.name, []).append(entry.number)

    def _close_attempts(self, trial: TrialFolder) -> None:
        """Write the end of attempts that nobody saw end: the controller died while they ran."""
        for number in trial.attempts:
            if number not in trial.ends:
                finished = trial.result is None and _is_final(trial) and number == trial.attempts[-1]
                end = AttemptEnd(
                    ended=EndClass.COMPLETE if finished else EndClass.STOPPED,
                    cause=None if finished else "the controller died while it ran",
                    seconds=trial.attempt_seconds(number),
                )
                self._writer.write_end(trial.name, number, end)

    def _settle(self, trial: TrialFolder) -> None:
        """Decide now what a dying controller left undecided: a last epoch, or a rung."""
        if not trial.attempts:
            return
        newest = trial.attempts[-1]
        if _is_final(trial):
            end = AttemptEnd(ended=EndClass.COMPLETE, seconds=0.0)
            self._conclude(trial, newest, end)
        elif (
            trial.history
            and trial.record.number is not None
            and self._should_prune(trial.name, trial.history[-1])
        ):
            detail = f"pruned after epoch {trial.epoch} by {self.config.pruner.name}"
            self._commit(self._decide(d.Reported(trial.name, True, detail)), newest)
            self._decide(d.Ended(name=trial.name, ended=EndClass.PRUNED, now=self._clock()))


def _rules(config: SweepConfig) -> d.Rules:
    budget = config.budget
    return d.Rules(
        trials=budget.trials,
        retry={EndClass(name): limit for name, limit in config.retry.limits().items()},
        confirm=config.confirm.top > 0,
        seconds=None if budget.hours is None else budget.hours * 3600.0,
        plateau_trials=budget.plateau.trials if budget.plateau else None,
        plateau_delta=budget.plateau.min_delta if budget.plateau else 0.0,
        maximise=config.objective.direction == "maximize",
    )


def _standing_state(state: d.State, trials: Sequence[TrialFolder], suggestions: int) -> d.State:
    """The state that the folders of earlier runs amount to."""
    standings = {trial.name: _standing(trial) for trial in trials}
    for trial in trials:
        if trial.result is not None:
            state = d.count_finished(state, standings[trial.name], trial.result.objective)
    return replace(
        state,
        trials=standings,
        waiting=tuple(trial.name for trial in trials if trial.result is None),
        suggestions=suggestions,
        seconds=sum(trial.seconds for trial in trials),
    )


def _standing(trial: TrialFolder) -> d.Standing:
    return d.Standing(
        name=trial.name,
        stage=trial.record.stage,
        number=trial.record.number,
        state=trial.result.state if trial.result else TrialState.PENDING,
        attempts=max(trial.attempts, default=0),
        failures=Counter(end.ended for end in trial.failures()),
    )


def _confirming(settings: TrialSettings, seed: int) -> TrialSettings:
    return replace(settings, train=replace(settings.train, seed=seed), splits=("val", "test"))


def _cause(result: Result) -> str:
    return ": ".join(each for each in (result.cause, result.detail) if each)


def _is_final(trial: TrialFolder) -> bool:
    return bool(trial.history and trial.history[-1].get("final"))


def _tail(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=_LOG_LINES)]
    except FileNotFoundError:
        return []
