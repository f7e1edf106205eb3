"""From (state, event) to (state, actions): pure.

No clock, no file, no Ray and no Optuna is touched here. The controller applies the actions to the real
world; a simulator can apply them to an imaginary one.
"""

from __future__ import annotations

import math
from dataclasses import replace

from orchestrator.decide.actions import Action, AskStudy, Commit, Finish, PlanConfirm, RunTrial, Wait
from orchestrator.decide.events import (
    Closed,
    Confirmed,
    Duplicated,
    Ended,
    Event,
    Reported,
    SlotFree,
    Suggested,
)
from orchestrator.decide.state import Standing, State
from orchestrator.store.records import EndClass, Stage, TrialState

__all__ = ["count_finished", "decide"]

_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 60.0
_DUPLICATES_THAT_END_THE_SEARCH = 20


def decide(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The state after an event, and what is to be done about it, in order."""
    match event:
        case SlotFree():
            return _fill_slot(state, event.now)
        case Suggested():
            return _admit(state, event.name), ()
        case Duplicated():
            return _count_duplicate(state), ()
        case Confirmed():
            return _enrol(state, event.names), ()
        case Reported():
            return _hear_report(state, event)
        case Ended():
            return _hear_end(state, event)
        case Closed():
            return replace(
                state, closed=state.closed or event.reason, stopping=state.stopping or event.stopping
            ), ()


def count_finished(state: State, trial: Standing, objective: float | None) -> State:
    """The state once a trial has ended, with what the plateau rule looks at; confirm trials do not count."""
    if trial.stage is Stage.CONFIRM:
        return state
    if objective is None:
        return replace(state, since_best=state.since_best + 1)
    if _gain(state, state.best, objective) > 0.0:
        state = replace(state, best=objective)
    if _gain(state, state.improved, objective) > state.rules.plateau_delta:
        return replace(state, improved=objective, since_best=0)
    return replace(state, since_best=state.since_best + 1)


def _fill_slot(state: State, now: float) -> tuple[State, tuple[Action, ...]]:
    if state.stopping:
        return state, (Wait(None) if state.live else Finish(state.closed or "stopped"),)
    for name in state.waiting:
        if state.trials[name].not_before <= now:
            return _start(state, name)
    if (reason := _why_closed(state)) is None:
        return state, (AskStudy(state.suggestions),)
    state = replace(state, closed=reason)
    if state.waiting and not state.live:
        return state, (Wait(min(state.trials[name].not_before for name in state.waiting)),)
    if state.live:
        return state, (Wait(None),)
    if state.rules.confirm and not state.confirmed:
        return state, (PlanConfirm(),)
    return state, (Finish(reason),)


def _start(state: State, name: str) -> tuple[State, tuple[Action, ...]]:
    trial = state.trials[name]
    trial = replace(trial, state=TrialState.RUNNING, attempts=trial.attempts + 1)
    waiting = tuple(each for each in state.waiting if each != name)
    state = replace(_put(state, trial), waiting=waiting, live=state.live | {name})
    return state, (RunTrial(name, trial.attempts, trial.recompute),)


def _why_closed(state: State) -> str | None:
    """Why no further suggestion is asked for; None while the search is open."""
    rules = state.rules
    if state.closed is not None:
        return state.closed
    if state.suggestions >= rules.trials:
        return f"all {rules.trials} trials are done"
    if state.duplicates_in_a_row >= _DUPLICATES_THAT_END_THE_SEARCH:
        return f"space exhausted: {state.duplicates_in_a_row} suggestions in a row named trials that exist"
    if rules.seconds is not None and state.seconds >= rules.seconds:
        return f"budget spent: {state.seconds / 3600:.2f} of {rules.seconds / 3600:.2f} trial hours"
    if rules.gpu_seconds is not None and state.gpu_seconds >= rules.gpu_seconds:
        return f"budget spent: {state.gpu_seconds / 3600:.2f} of {rules.gpu_seconds / 3600:.2f} GPU hours"
    if rules.plateau_trials is not None and state.since_best >= rules.plateau_trials:
        return f"plateau: no improvement of {rules.plateau_delta} in {state.since_best} trials"
    return None


def _admit(state: State, name: str) -> State:
    trial = Standing(name=name, stage=Stage.SEARCH, number=state.suggestions)
    state = _put(state, trial)
    waiting = (*state.waiting, name)
    return replace(state, waiting=waiting, suggestions=state.suggestions + 1, duplicates_in_a_row=0)


def _count_duplicate(state: State) -> State:
    in_a_row = state.duplicates_in_a_row + 1
    return replace(state, suggestions=state.suggestions + 1, duplicates_in_a_row=in_a_row)


def _enrol(state: State, names: tuple[str, ...]) -> State:
    fresh = tuple(name for name in names if name not in state.trials)
    trials = {**state.trials, **{name: Standing(name=name, stage=Stage.CONFIRM) for name in fresh}}
    return replace(state, trials=trials, waiting=(*state.waiting, *fresh), confirmed=True)


def _hear_report(state: State, event: Reported) -> tuple[State, tuple[Action, ...]]:
    if not event.prune:
        return state, ()
    trial = replace(state.trials[event.name], state=TrialState.PRUNED)
    return _put(state, trial), (Commit(event.name, TrialState.PRUNED, None, event.detail),)


def _hear_end(state: State, event: Ended) -> tuple[State, tuple[Action, ...]]:
    trial = state.trials[event.name]
    state = replace(
        state,
        live=state.live - {event.name},
        waiting=tuple(name for name in state.waiting if name != event.name),
        seconds=state.seconds + event.seconds,
        gpu_seconds=state.gpu_seconds + event.gpu_seconds,
    )
    if trial.state.is_final:
        return count_finished(state, trial, None), ()
    if event.ended is EndClass.COMPLETE:
        state = _put(state, replace(trial, state=TrialState.COMPLETE))
        commit = Commit(event.name, TrialState.COMPLETE)
        return count_finished(state, trial, event.objective), (commit,)
    if event.ended.is_failure:
        return _hear_failure(state, trial, event)
    waiting = replace(trial, state=TrialState.PENDING)
    return replace(_put(state, waiting), waiting=(event.name, *state.waiting)), ()


def _hear_failure(state: State, trial: Standing, event: Ended) -> tuple[State, tuple[Action, ...]]:
    """Another attempt if that may help and the class of the failure has budget left, else the trial's end."""
    before = trial.failures.get(event.ended, 0)
    hopeless = _why_hopeless(trial, event)
    failed = replace(
        trial,
        failures={**trial.failures, event.ended: before + 1},
        fingerprints=trial.fingerprints | ({event.fingerprint} if event.fingerprint else set()),
        recompute=trial.recompute or event.ended is EndClass.OUT_OF_MEMORY,
    )
    has_budget = event.ended is EndClass.PREEMPTED or before < state.rules.retry.get(event.ended, 0)
    if has_budget and hopeless is None:
        wait = min(_FIRST_BACKOFF_SECONDS * 2.0**before, _LONGEST_BACKOFF_SECONDS)
        again = replace(failed, state=TrialState.PENDING, not_before=event.now + wait)
        return replace(_put(state, again), waiting=(event.name, *state.waiting)), ()
    state = _put(state, replace(failed, state=TrialState.FAILED))
    detail = "; ".join(each for each in (event.detail, hopeless) if each) or None
    return count_finished(state, trial, None), (
        Commit(event.name, TrialState.FAILED, event.ended.value, detail),
    )


def _why_hopeless(trial: Standing, event: Ended) -> str | None:
    """Why the next attempt would fail as this one did; None where it might not."""
    if event.fingerprint is not None and event.fingerprint in trial.fingerprints:
        return "it failed at the same place before, and is not tried again"
    if event.ended is EndClass.OUT_OF_MEMORY and event.recomputed:
        return "computing activations twice did not save enough"
    return None


def _gain(state: State, before: float | None, objective: float) -> float:
    """How much better an objective is than another one; than none beyond all measure."""
    if before is None:
        return math.inf
    return objective - before if state.rules.maximise else before - objective


def _put(state: State, trial: Standing) -> State:
    return replace(state, trials={**state.trials, trial.name: trial})
