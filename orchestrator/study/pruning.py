"""Who is ended early: an Optuna study of learning curves alone, apart from the one that suggests.

It knows the trials by the one metric that decides about pruning, so that a search with several objectives,
for which Optuna takes no learning curves, is pruned all the same. Everything in it follows from histories.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from orchestrator.config import SweepConfig
from orchestrator.store.records import TrialState
from orchestrator.study.pruners import bracket_of, make_brackets, make_gate

__all__ = ["Pruning"]

_STATES = {TrialState.COMPLETE: OptunaState.COMPLETE, TrialState.PRUNED: OptunaState.PRUNED}


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One trial under judgement."""

    bracket: int
    trial_id: int
    newest: int = 0
    """The last epoch that is known."""
    question: tuple[int, float] | None = None
    """That epoch and its value, if its bracket's pruner is to be asked about it and has not been."""
    rungs: int = 0
    """How many rungs it has passed."""


class Pruning:
    """Learning curves of one sweep's trials, and who is not worth finishing."""

    def __init__(self, config: SweepConfig) -> None:
        self._config = config
        self._brackets = make_brackets(config.pruner, config.train.epochs)
        self._gate = make_gate(config.pruner)
        self._storage = optuna.storages.InMemoryStorage()
        direction = config.pruning_objective.direction
        self.studies = [
            optuna.create_study(
                study_name=f"{config.name} {index}",
                storage=self._storage,
                direction=direction,
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=bracket.pruner,
            )
            for index, bracket in enumerate(self._brackets)
        ]
        self._ids = [self._storage.get_study_id_from_name(study.study_name) for study in self.studies]
        self._entries: dict[int, _Entry] = {}

    def open(self, number: int) -> None:
        """A new trial, of which nothing is known."""
        bracket = bracket_of(self._config, number, self._brackets)
        template = create_trial(state=OptunaState.RUNNING)
        trial_id = self._storage.create_new_trial(self._ids[bracket], template)
        self._entries[number] = _Entry(bracket=bracket, trial_id=trial_id)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a trial's value after an epoch; whether the pruner would end the trial here."""
        self.note(number, epoch, value)
        entry = self._entries[number]
        if entry.question is None or entry.question[0] != epoch:
            return False
        ends = self._ask(self._brackets[entry.bracket].pruner, entry)
        self._settle(entry)
        return ends

    def note(self, number: int, epoch: int, value: float) -> None:
        """Note a trial's value after an epoch without asking the pruner; a second word about one is ignored.

        Whoever has come so far was not ended before: the epochs up to there are decided.
        """
        entry = self._entries[number]
        if epoch <= entry.newest:
            return
        self._settle(entry)
        self._storage.set_trial_intermediate_value(entry.trial_id, epoch, value)
        entry.newest = epoch
        if self._may_ask(entry):
            entry.question = (epoch, value)

    def close(self, number: int, state: TrialState) -> None:
        """Note how a trial ended. Only a complete one ran on to an epoch that nobody decides about."""
        entry = self._entries.pop(number)
        if state is not TrialState.COMPLETE:
            self._settle(entry)
        values = self._storage.get_trial(entry.trial_id).intermediate_values
        last = [values.get(entry.newest, math.nan)] if state is TrialState.COMPLETE else None
        self._storage.set_trial_state_values(entry.trial_id, _STATES.get(state, OptunaState.FAIL), last)

    def _may_ask(self, entry: _Entry) -> bool:
        return self._gate is None or self._ask(self._gate, entry)

    def _ask(self, pruner: optuna.pruners.BasePruner, entry: _Entry) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of a curve that is NaN throughout
            return pruner.prune(self.studies[entry.bracket], self._storage.get_trial(entry.trial_id))

    def _settle(self, entry: _Entry) -> None:
        """Let a trial stand on every rung that lies up to the epoch in question, unless its value is NaN.

        Optuna stops at the first rung that a trial does not pass. With patience several may be due at once,
        and only if all of them are noted can the notes be written again from the history alone.
        """
        if entry.question is None:
            return
        epoch, value = entry.question
        entry.question = None
        ladder = None if math.isnan(value) else self._brackets[entry.bracket].ladder
        while ladder is not None and ladder.epoch_of(entry.rungs) <= epoch:
            self._storage.set_trial_system_attr(entry.trial_id, f"completed_rung_{entry.rungs}", value)
            entry.rungs += 1
