"""Random schedules for the controller's decisions: an imaginary cluster on which everything happens.

A schedule is drawn from a seed: slots, budgets and retries, who finishes an epoch when, how attempts end,
which suggestions are duplicates, when the user stops the sweep, when the controller dies and starts again.
`run_schedule` plays one to its end and raises AssertionError unless, all the way,

- a trial is committed exactly once, and after that nothing is started for it;
- an attempt is started only for a trial that is not live, with the next number, on a free slot;
- suggestions are asked for in order, no more than the budget's, and none once a budget of seconds or GPU
  seconds is spent, 20 suggestions in a row were duplicates, or the search was closed;
- a failure is tried again as often as its class allows and no more, never after the same failure at the same
  place, and never before its backoff of 1, 2, 4, ... 60 seconds; preemption and stops cost nothing;
- after a lack of memory the next attempt computes activations twice;
- confirm trials are planned once, when the search is over and nothing is live or waiting;
- waiting has an end: for an attempt that is live, or for a time at which something can be started;
- the sweep ends with every trial committed, or, after a stop, with nothing live;
- the clock decides nothing but backoffs: the same events a million seconds later give the same actions.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

from orchestrator import decide as d
from orchestrator.store.records import EndClass, Stage, TrialState

__all__ = ["Played", "run_schedule"]

LATER = 1_000_000.0
LONGEST = 20_000
_NOT_BY_CHANCE = (EndClass.PRUNED, EndClass.STOPPED)
WEATHERS = (
    (EndClass.COMPLETE, EndClass.COMPLETE, EndClass.INFRASTRUCTURE, *EndClass),
    (EndClass.PREEMPTED, EndClass.PREEMPTED, EndClass.PREEMPTED, EndClass.COMPLETE),
)
"""How attempts may end: as it comes, and while machines are taken away all the time."""


@dataclass
class Played:
    """What a schedule came to."""

    trials: int = 0
    attempts: int = 0
    restarts: int = 0
    commits: Counter[str] = field(default_factory=Counter)


class _Schedule:
    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.slots = chance.randint(1, 5)
        self.ends = [each for each in chance.choice(WEATHERS) if each not in _NOT_BY_CHANCE]
        self.duplicates = chance.choice([0.1, 0.1, 0.9])
        self.now = 0.0
        self.rules = d.Rules(
            trials=chance.choice([1, 5, 15, 40]),
            retry={
                EndClass.INFRASTRUCTURE: chance.randint(0, 5),
                EndClass.HANG: chance.randint(0, 2),
                EndClass.OUT_OF_MEMORY: chance.randint(0, 2),
                EndClass.ERROR: chance.randint(0, 2),
            },
            confirm=chance.random() < 0.5,
            seconds=chance.choice([None, None, 300.0]),
            gpu_seconds=chance.choice([None, None, 500.0]),
            plateau_trials=chance.choice([None, 4]),
            plateau_delta=0.01,
            maximise=chance.random() < 0.5,
        )
        self.state = d.State(rules=self.rules)
        self.later = d.State(rules=self.rules)
        self.played = Played()
        self.objectives: dict[str, float | None] = {}
        self.prints: dict[str, set[str]] = {}
        self.ready: dict[str, float] = {}
        self.short_of_memory: set[str] = set()
        self.spent = self.gpu_spent = 0.0

    def play(self) -> Played:
        for _ in range(LONGEST):
            self.now += self.chance.randint(0, 2)
            if self.chance.random() < 0.01:
                self._restart()
            if self.chance.random() < 0.002:
                self._happen(d.Closed("stopped", stopping=True))
            if len(self.state.live) < self.slots and self.chance.random() < 0.7:
                if self._fill_slot():
                    return self.played
            elif self.state.live:
                self._advance(self.chance.choice(sorted(self.state.live)))
        raise AssertionError("the sweep does not end")

    def _happen(self, event: d.Event) -> tuple[d.Action, ...]:
        """Decide, and decide again a million seconds later."""
        self.state, actions = d.decide(self.state, event)
        shifted = replace(event, now=event.now + LATER) if isinstance(event, d.SlotFree | d.Ended) else event
        self.later, same = d.decide(self.later, shifted)
        assert [_earlier(action) for action in same] == list(actions)
        for action in actions:
            if isinstance(action, d.Commit):
                self.played.commits[action.name] += 1
                assert self.played.commits[action.name] == 1
                assert action.state.is_final
        return actions

    def _fill_slot(self) -> bool:
        """Offer a slot; whether the sweep is over."""
        (action,) = self._happen(d.SlotFree(self.now))
        match action:
            case d.AskStudy(number):
                self._suggest(number)
            case d.RunTrial():
                self._start(action)
            case d.PlanConfirm():
                assert self.rules.confirm and not self.state.confirmed
                assert not self.state.live and not self.state.waiting
                names = tuple(f"c{index}" for index in range(self.chance.randint(0, 3)))
                self._happen(d.Confirmed(names))
            case d.Wait(None):
                assert self.state.live
            case d.Wait(until):
                assert until is not None and until > self.now
                assert until == min(self.ready[name] for name in self.state.waiting)
                self.now = until
            case d.Finish():
                self._finish()
                return True
        return False

    def _suggest(self, number: int) -> None:
        rules, state = self.rules, self.state
        assert number == state.suggestions < rules.trials
        assert state.closed is None and state.duplicates_in_a_row < 20
        assert rules.seconds is None or self.spent < rules.seconds
        assert rules.gpu_seconds is None or self.gpu_spent < rules.gpu_seconds
        known = sorted(name for name, trial in state.trials.items() if trial.stage is Stage.SEARCH)
        if known and self.chance.random() < self.duplicates:
            self._happen(d.Duplicated(self.chance.choice(known)))
        else:
            self._happen(d.Suggested(f"t{number}"))

    def _start(self, action: d.RunTrial) -> None:
        name, trial = action.name, self.state.trials[action.name]
        assert name in self.state.live and len(self.state.live) <= self.slots
        assert not self.played.commits[name] and not self.state.stopping
        assert action.attempt == trial.attempts
        assert self.now >= self.ready.get(name, 0.0)
        assert action.recompute == (name in self.short_of_memory)
        self.played.attempts += 1

    def _advance(self, name: str) -> None:
        """An epoch, and perhaps an end."""
        trial = self.state.trials[name]
        if trial.stage is Stage.SEARCH and self.chance.random() < 0.15:
            self._happen(d.Reported(name, True, "why"))
        elif self.chance.random() < 0.5:
            assert self._happen(d.Reported(name, False)) == ()
            return
        stopped = self.state.stopping and self.chance.random() < 0.7
        ended = EndClass.STOPPED if stopped else self.chance.choice(self.ends)
        self._end(name, ended)

    def _end(self, name: str, ended: EndClass) -> None:
        before = self.state.trials[name]
        print_ = f"{ended}{self.chance.randint(1, 3)}" if ended in (EndClass.ERROR, EndClass.HANG) else None
        objective = self.chance.random() if ended is EndClass.COMPLETE else None
        seconds, gpu_seconds = float(self.chance.randint(0, 40)), float(self.chance.randint(0, 40))
        self.spent += seconds
        self.gpu_spent += gpu_seconds
        actions = self._happen(
            d.Ended(
                name=name,
                ended=ended,
                now=self.now,
                seconds=seconds,
                gpu_seconds=gpu_seconds,
                fingerprint=print_,
                recomputed=name in self.short_of_memory,
                objective=objective,
            )
        )
        assert name not in self.state.live
        if before.state.is_final:
            assert actions == ()
            return
        self.objectives[name] = objective
        if not ended.is_failure:
            assert len(actions) == (ended is EndClass.COMPLETE)
            return
        self._check_retry(before, ended, print_, tried_again=not actions)

    def _check_retry(
        self, before: d.Standing, ended: EndClass, print_: str | None, tried_again: bool
    ) -> None:
        name, count = before.name, before.failures.get(ended, 0)
        allowed = ended is EndClass.PREEMPTED or count < self.rules.retry.get(ended, 0)
        repeated = print_ is not None and print_ in self.prints.get(name, set())
        hopeless = repeated or (ended is EndClass.OUT_OF_MEMORY and name in self.short_of_memory)
        assert tried_again == (allowed and not hopeless)
        self.ready[name] = self.now + min(2.0**count, 60.0)
        if print_ is not None:
            self.prints.setdefault(name, set()).add(print_)
        if ended is EndClass.OUT_OF_MEMORY:
            self.short_of_memory.add(name)

    def _restart(self) -> None:
        """The controller dies; the next one knows what is in the folders, which backoffs are not."""
        self.played.restarts += 1
        self.ready.clear()
        self.state = self._recovered(self.state)
        self.later = self._recovered(self.later)

    def _recovered(self, state: d.State) -> d.State:
        trials = {
            name: replace(
                trial,
                state=trial.state if trial.state.is_final else TrialState.PENDING,
                not_before=0.0,
            )
            for name, trial in state.trials.items()
        }
        fresh = d.State(
            rules=self.rules,
            trials=trials,
            waiting=tuple(name for name, trial in trials.items() if not trial.state.is_final),
            suggestions=state.suggestions,
            seconds=state.seconds,
            gpu_seconds=state.gpu_seconds,
        )
        for name, trial in trials.items():
            if trial.state.is_final:
                fresh = d.count_finished(fresh, trial, self.objectives.get(name))
        return fresh

    def _finish(self) -> None:
        state = self.state
        assert not state.live
        assert state.suggestions <= self.rules.trials
        if not state.stopping:
            assert not state.waiting
            assert set(self.played.commits) == set(state.trials)
            assert all(trial.state.is_final for trial in state.trials.values())
        assert self.played.attempts == sum(trial.attempts for trial in state.trials.values())
        self.played.trials = len(state.trials)


def run_schedule(seed: int) -> Played:
    """Play the schedule of a seed to its end; raises AssertionError, see above."""
    return _Schedule(seed).play()


def _earlier(action: d.Action) -> d.Action:
    if isinstance(action, d.Wait) and action.until is not None:
        return d.Wait(action.until - LATER)
    return action
