"""What to try next: an Optuna study in memory that is asked for suggestions and told what came of them.

A suggestion depends on the trials before it and on (sweep seed, number), and on nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from cpsc_core.seeds import stream_seed
from orchestrator.config import SweepConfig
from orchestrator.ranking import values_of
from orchestrator.store.records import EndClass, Result, TrialState
from orchestrator.study.by_number import BY_NUMBER
from orchestrator.study.prior import PriorTrial
from orchestrator.study.samplers import new_sampler
from orchestrator.study.space import Space, suggest

__all__ = ["Search", "Suggestion"]

_SHARED_WITH_NOBODY = ("tpe:relative_params:", "gp:relative_params:")
_GENERATION = "NSGAIISampler:generation"
_PARENTS = "NSGAIISampler:parent:"
_MEMORY = "peak_memory_gb"
_EXCESS_WITHOUT_MEMORY = 1.0
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What the sampler would try next."""

    number: int
    """Its number, from 0."""
    params: dict[str, Any]
    """Values by dotted path."""
    distributions: dict[str, str]
    """Each parameter's distribution as Optuna writes it in JSON."""
    system_attrs: dict[str, Any]
    """What the sampler noted beside it, JSON only."""


class Search:
    """The suggestions of one sweep and what came of them."""

    def __init__(self, config: SweepConfig, prior: Sequence[PriorTrial] = ()) -> None:
        self._config = config
        self._storage = optuna.storages.InMemoryStorage()
        self.space = Space(config)
        self.study = optuna.create_study(
            study_name=config.name,
            storage=self._storage,
            directions=[each.direction for each in config.objectives],
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self._study_id = self._storage.get_study_id_from_name(config.name)
        self._sampler: optuna.samplers.BaseSampler | None = None
        self._ids: dict[int, int] = {}
        for place, trial in enumerate(prior, start=-len(prior)):
            self._enter_prior(place, trial)

    def ask(self, number: int) -> Suggestion | None:
        """The suggestion of a number, which must not have been asked for before; None: space exhausted."""
        queue, noted = self._config.enqueue, dict[str, Any]()
        wanted = queue[number] if number < len(queue) else {}
        if (function := BY_NUMBER.get(self._config.sampler.name)) is not None:
            params = wanted or function(self.space, number - len(queue), self._config.sampler.seed)
            if params is None:
                return None
            self.enter(number, self.space.fill(params.__getitem__))
        else:
            noted = self._ask_sampler(number, wanted)
        frozen = self._frozen(number)
        return Suggestion(
            number=number,
            params=dict(frozen.params),
            distributions=self.space.to_json(frozen.params),
            system_attrs=json.loads(json.dumps({**frozen.system_attrs, **noted})),
        )

    def enter(self, number: int, params: Mapping[str, Any], noted: Mapping[str, Any] = _NOTHING) -> None:
        """A suggestion that no sampler is to be asked for, with what was noted beside it when one was."""
        attrs = dict(noted)
        parents = attrs.pop(_PARENTS, None)
        template = create_trial(
            state=OptunaState.RUNNING,
            params=dict(params),
            distributions=self.space.of(params),
            system_attrs=attrs,
        )
        self._ids[number] = self._storage.create_new_trial(self._study_id, template)
        if parents is not None:
            ids = [self._ids[parent] for parent in parents]
            self._storage.set_study_system_attr(self._study_id, f"{_PARENTS}{attrs[_GENERATION]}", ids)

    def note(self, number: int, epoch: int, value: float) -> None:
        """Note a trial's objective after an epoch; nothing is noted where there are several objectives."""
        known = self._frozen(number).intermediate_values
        if len(self._config.objectives) == 1 and epoch not in known:
            self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)

    def tell(self, number: int, result: Result) -> None:
        """Note how a trial ended.

        Optuna's samplers ignore failed trials and would try the same region again. So a diverged trial is
        told as pruned with NaN, and one that ran out of memory as pruned with its memory constraint violated.
        Any other failure is told as failed, with its cause.
        """
        if result.cause is not None:
            self._storage.set_trial_user_attr(self._ids[number], "cause", result.cause)
        trial = optuna.trial.Trial(self.study, self._ids[number])
        for text, excess in self._violations(result).items():
            trial.set_constraint(text, excess)
        if result.state is TrialState.COMPLETE:
            self.study.tell(trial, values_of(result, self._config.objectives))
            return
        self._mark_how_far(number, result)
        avoidable = result.cause in (None, EndClass.DIVERGED, EndClass.OUT_OF_MEMORY)
        self.study.tell(trial, state=OptunaState.PRUNED if avoidable else OptunaState.FAIL)

    def _ask_sampler(self, number: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Make a suggestion; returns what is to be noted beside it that Optuna does not note on the trial."""
        seed = stream_seed(self._config.sampler.seed, "suggestion", number, 0)
        before = set(self._storage.get_study_system_attrs(self._study_id))
        self.study.sampler = self._sampler = new_sampler(self._config, seed, self._sampler)
        if wanted:
            self.study.enqueue_trial(dict(wanted))
        trial = self.study.ask()
        self.space.fill(lambda path: suggest(trial, path, self.space.distributions[path]))
        place = trial.number
        self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, place)
        self._forget_shared_params(number)
        return self._new_parents(before)

    def _forget_shared_params(self, number: int) -> None:
        """What tpe and gp write for processes that ask at the same time: it also has absent parameters."""
        attrs = self._frozen(number).system_attrs
        for key in [key for key in attrs if key.startswith(_SHARED_WITH_NOBODY)]:
            del attrs[key]

    def _new_parents(self, before: set[str]) -> dict[str, Any]:
        """NSGA-II's choice of parents for a new generation, by number: Optuna keeps it in the study alone.

        Chosen again later it could differ, since a trial of the generation before may have ended meanwhile.
        """
        numbers = {trial_id: number for number, trial_id in self._ids.items()}
        attrs = self._storage.get_study_system_attrs(self._study_id)
        fresh = [ids for key, ids in attrs.items() if key.startswith(_PARENTS) and key not in before]
        return {_PARENTS: [numbers[trial_id] for trial_id in fresh[0]]} if fresh else {}

    def _violations(self, result: Result) -> dict[str, float]:
        if result.cause != EndClass.OUT_OF_MEMORY:
            return result.excess
        bounds = self._config.bounds
        of_memory = [text for text, bound in bounds.items() if bound.metric == _MEMORY and bound.is_upper]
        return dict.fromkeys(of_memory or [_MEMORY], _EXCESS_WITHOUT_MEMORY)

    def _mark_how_far(self, number: int, result: Result) -> None:
        """Give an unfinished trial the intermediate values that samplers rank such trials by.

        The further one came the better, then by its value, NaN last. A diverged one came nowhere. With
        several objectives Optuna compares no values, only how far.
        """
        trial_id, several = self._ids[number], len(self._config.objectives) > 1
        if result.cause == EndClass.DIVERGED and not several:
            for epoch in (*self._frozen(number).intermediate_values, 0):
                self._storage.set_trial_intermediate_value(trial_id, epoch, math.nan)
        elif result.state is TrialState.PRUNED and several:
            self._storage.set_trial_intermediate_value(trial_id, result.metrics["epoch"], math.nan)

    def _enter_prior(self, place: int, prior: PriorTrial) -> None:
        """A trial of an earlier sweep, known by its end alone; NSGA-II finds it in the first generation."""
        self.enter(place, prior.params, {_GENERATION: 0} if self._config.sampler.name == "nsgaii" else {})
        self.tell(place, prior.to_result())

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self._storage.get_trial(self._ids[number])
