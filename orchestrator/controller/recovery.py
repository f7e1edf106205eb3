"""From the folders that earlier runs left to the state a controller goes on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import decide as d
from orchestrator.manifest import gpus_before, search_opened
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import AttemptEnd, Duplicate, EndClass, Result, TrialState
from orchestrator.store.writer import SweepWriter
from orchestrator.study.study import Study

__all__ = ["Recovered", "describe_cause", "is_final", "recover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What the folders amount to."""

    state: d.State
    """The sweep in the controller's eyes."""
    unfinished: tuple[TrialFolder, ...]
    """Trials without a result, in order."""
    awaiting: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of suggestions that await the result of the trial that they named."""
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Last metrics line of each trial."""
    causes: dict[str, str] = field(default_factory=dict)
    """Why trials failed or were pruned, in words."""
    objectives: dict[str, float | None] = field(default_factory=dict)
    """What finished trials are ranked by; None unless they are complete."""


def recover(writer: SweepWriter, study: Study, rules: d.Rules) -> Recovered:
    """Read a sweep's folders into a state and a study; attempts that nobody saw end are given an end."""
    folder = SweepFolder(writer.paths)
    gpus = gpus_before(folder.manifest, writer.lease.generation)
    for trial in folder.trials():
        _close_attempts(writer, trial, gpus)
    trials, duplicates = folder.trials(), folder.duplicates()
    by_name = {trial.name: trial for trial in trials}
    entries: dict[int, TrialFolder | Duplicate] = {each.number: each for each in duplicates}
    entries |= {trial.record.number: trial for trial in trials if trial.record.number is not None}
    for number in sorted(entries):
        entry = entries[number]
        if isinstance(entry, Duplicate):
            study.restore_duplicate(entry, by_name[entry.name])
        else:
            study.restore(entry)
    return Recovered(
        state=_state(
            rules,
            trials,
            suggestions=max(entries, default=-1) + 1,
            duplicates_in_a_row=_repeated(entries, search_opened(folder.manifest)),
        ),
        unfinished=tuple(trial for trial in trials if trial.result is None),
        awaiting=_awaiting(duplicates, by_name),
        newest={trial.name: trial.history[-1] for trial in trials if trial.history},
        causes={trial.name: describe_cause(trial.result) for trial in trials if trial.result},
        objectives={trial.name: trial.result.objective for trial in trials if trial.result},
    )


def is_final(trial: TrialFolder) -> bool:
    """Whether a trial has run to its end, with a result or still without."""
    return bool(trial.history and trial.history[-1].get("final"))


def describe_cause(result: Result) -> str:
    """Why a trial failed or was pruned, in words; empty if it is complete."""
    return ": ".join(each for each in (result.cause, result.detail) if each)


def _close_attempts(writer: SweepWriter, trial: TrialFolder, gpus: float) -> None:
    """Attempts without an end are those that ran when the controller died, on so many GPUs."""
    for number in trial.attempts:
        if number in trial.ends:
            continue
        finished = number == trial.attempts[-1] and is_final(trial)
        end = AttemptEnd(
            ended=EndClass.COMPLETE if finished else EndClass.STOPPED,
            cause=None if finished else "the controller died while it ran",
            seconds=trial.attempt_seconds(number),
            gpus=gpus,
        )
        writer.write_end(trial.name, number, end)


def _awaiting(duplicates: Sequence[Duplicate], by_name: dict[str, TrialFolder]) -> dict[str, list[int]]:
    awaiting: dict[str, list[int]] = {}
    for duplicate in duplicates:
        if by_name[duplicate.name].result is None:
            awaiting.setdefault(duplicate.name, []).append(duplicate.number)
    return awaiting


def _repeated(entries: Mapping[int, TrialFolder | Duplicate], opened: int) -> int:
    """How many of the last suggestions in a row named trials that existed, since the search was opened."""
    in_a_row = 0
    for number in sorted(entries, reverse=True):
        entry = entries[number]
        if not isinstance(entry, Duplicate) or entry.generation < opened:
            break
        in_a_row += 1
    return in_a_row


def _state(
    rules: d.Rules, trials: Sequence[TrialFolder], *, suggestions: int, duplicates_in_a_row: int
) -> d.State:
    standings = {trial.name: _standing(trial) for trial in trials}
    state = d.State(
        rules=rules,
        trials=standings,
        waiting=tuple(trial.name for trial in trials if trial.result is None),
        suggestions=suggestions,
        duplicates_in_a_row=duplicates_in_a_row,
        seconds=sum(trial.seconds for trial in trials),
        gpu_seconds=sum(trial.gpu_seconds for trial in trials),
    )
    finished = [(trial, trial.result) for trial in trials if trial.result is not None]
    # in the order in which they ended, which is the one that a plateau is counted in
    for trial, result in sorted(finished, key=lambda each: each[1].timing.get("ended", 0.0)):
        state = d.count_finished(state, standings[trial.name], result.score)
    return state


def _standing(trial: TrialFolder) -> d.Standing:
    failures = trial.failures()
    return d.Standing(
        name=trial.name,
        stage=trial.record.stage,
        number=trial.record.number,
        state=trial.result.state if trial.result else TrialState.PENDING,
        attempts=max(trial.attempts, default=0),
        failures=Counter(end.ended for end in failures),
        fingerprints=frozenset(end.fingerprint for end in failures if end.fingerprint),
        recompute=any(end.ended is EndClass.OUT_OF_MEMORY for end in trial.ends.values()),
    )
