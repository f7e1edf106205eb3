"""The Optuna study as a view of the trial folders: the only door to Optuna.

The study lives in memory and is rebuilt from the folders whenever a sweep starts or resumes. Nothing is
pickled: a suggestion depends on the trials before it and on (sweep seed, number), and on nothing else.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from cpsc_core.seeds import stream_seed
from orchestrator.config import Choices, Range, SweepConfig
from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Duplicate, EndClass, TrialState

__all__ = ["Study", "Suggestion", "distributions"]

_RESEEDED = ("_rng", "_random_sampler")


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


class Study:
    """Suggestions, pruning decisions and outcomes of one sweep's search."""

    def __init__(self, config: SweepConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._config = config
        self._space = distributions(config)
        self._sampler = _make_sampler(config)
        self.study = optuna.create_study(
            study_name=config.name,
            direction=config.objective.direction,
            sampler=self._sampler,
            pruner=_make_pruner(config),
        )
        self._trials: dict[int, optuna.trial.Trial] = {}

    def suggest(self, number: int) -> Suggestion | None:
        """The suggestion of a number, which must not have been asked for before; None: space exhausted."""
        seed = stream_seed(self._config.sampler.seed, "suggestion", number, 0)
        if (params := self._by_number(number)) is not None:
            self._add(number, OptunaState.RUNNING, params, self._space, {})
        elif self._config.sampler.name in _BY_NUMBER:
            return None
        else:
            _reseed(self._sampler, seed)
            self._trials[number] = self.study.ask(fixed_distributions=dict(self._space))
        frozen = self._frozen(number)
        return Suggestion(
            number=number,
            params=dict(frozen.params),
            distributions={name: distribution_to_json(each) for name, each in frozen.distributions.items()},
            system_attrs=json.loads(json.dumps(frozen.system_attrs)),
        )

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a trial's objective after an epoch; whether the pruner would end the trial here."""
        self.note(number, epoch, value)
        return self._trials[number].should_prune()

    def note(self, number: int, epoch: int, value: float) -> None:
        """Note a trial's objective after an epoch, its last for instance, without asking the pruner."""
        if epoch not in self._frozen(number).intermediate_values:
            self._trials[number].report(value, step=epoch)

    def tell(self, number: int, state: TrialState, objective: float | None, cause: str | None) -> None:
        """Note how a trial ended.

        A diverged one is told as pruned with NaN: Optuna's samplers ignore failed trials and would try the
        same region again. Any other failure is told as failed, with its cause.
        """
        trial = self._trials.pop(number)
        if cause is not None:
            trial.set_user_attr("cause", cause)
        if state is TrialState.COMPLETE and objective is not None:
            self.study.tell(trial, objective)
        elif state is TrialState.PRUNED:
            self.study.tell(trial, state=OptunaState.PRUNED)
        elif cause == EndClass.DIVERGED:
            _mark_diverged(trial)
            self.study.tell(trial, state=OptunaState.PRUNED)
        else:
            self.study.tell(trial, state=OptunaState.FAIL)

    def copy(self, number: int, trial: TrialFolder) -> None:
        """Tell the suggestion of a number, a duplicate, what came out of the trial that it named."""
        metric = self._config.objective.metric
        for line in trial.history:
            if math.isfinite(line[metric]):
                self._trials[number].report(line[metric], step=line["epoch"])
        if trial.result is not None:
            self.tell(number, trial.result.state, trial.result.objective, trial.result.cause)

    def restore(self, trial: TrialFolder) -> None:
        """Enter a trial of an earlier run as it stands in its folder."""
        record = trial.record
        if record.number is None:
            raise ValueError(f"trial {trial.name} was not suggested, so the study does not know it")
        metric = self._config.objective.metric
        values = {line["epoch"]: float(line[metric]) for line in trial.history}
        # Of a trial that was not stopped there, nobody knows whether its last epoch passed a rung.
        decided = sorted(values)[: None if trial.state is TrialState.PRUNED else -1]
        rungs = self._rungs({epoch: values[epoch] for epoch in decided})
        self._enter(record.number, record.params, record.system_attrs | rungs, values, trial)

    def restore_duplicate(self, duplicate: Duplicate, trial: TrialFolder) -> None:
        """Enter a suggestion of an earlier run that named an existing trial.

        It does not stand on any rung: the trial it named already does.
        """
        metric = self._config.objective.metric
        values = {line["epoch"]: float(line[metric]) for line in trial.history}
        self._enter(duplicate.number, duplicate.params, duplicate.system_attrs, values, trial)

    def _enter(
        self,
        number: int,
        params: Mapping[str, Any],
        system_attrs: Mapping[str, Any],
        values: Mapping[int, float],
        trial: TrialFolder,
    ) -> None:
        space = {name: self._space[name] for name in params if name in self._space}
        known = {name: params[name] for name in space}
        self._add(number, OptunaState.RUNNING, known, space, system_attrs, values)
        if (result := trial.result) is not None:
            self.tell(number, result.state, result.objective, result.cause)

    def _add(
        self,
        number: int,
        state: OptunaState,
        params: Mapping[str, Any],
        space: Mapping[str, BaseDistribution],
        system_attrs: Mapping[str, Any],
        values: Mapping[int, float] | None = None,
    ) -> None:
        self.study.add_trial(
            create_trial(
                state=state,
                params=dict(params),
                distributions=dict(space),
                system_attrs=dict(system_attrs),
                intermediate_values=dict(values or {}),
            )
        )
        newest = self.study.get_trials(deepcopy=False)[-1]
        self._trials[number] = optuna.trial.Trial(self.study, newest._trial_id)

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self.study._storage.get_trial(self._trials[number]._trial_id)

    def _rungs(self, values: Mapping[int, float]) -> dict[str, float]:
        """Rungs that were decided at given epochs, as the successive-halving pruner notes them on a trial."""
        pruner = self._config.pruner
        if pruner.name != "successive_halving":
            return {}
        rungs: dict[str, float] = {}
        for rung in itertools.count():
            threshold = pruner.min_epochs * pruner.reduction_factor**rung
            step = next((epoch for epoch in sorted(values) if epoch >= threshold), None)
            if step is None:
                return rungs
            rungs[f"completed_rung_{rung}"] = values[step]
        raise AssertionError("unreachable: rungs grow without bound")

    def _by_number(self, number: int) -> dict[str, Any] | None:
        function = _BY_NUMBER.get(self._config.sampler.name)
        return function(self._space, number, self._config.sampler.seed) if function else None


def distributions(config: SweepConfig) -> dict[str, BaseDistribution]:
    """The search space as Optuna distributions, by dotted path in alphabetical order."""
    return {path: _distribution(spec) for path, spec in sorted(config.search.items())}


def _distribution(spec: Range | Choices) -> BaseDistribution:
    if isinstance(spec, Choices):
        return CategoricalDistribution(spec.choices)
    if isinstance(spec.low, int) and isinstance(spec.high, int):
        return IntDistribution(spec.low, spec.high, log=spec.log, step=int(spec.step or 1))
    return FloatDistribution(spec.low, spec.high, log=spec.log, step=spec.step)


def _make_sampler(config: SweepConfig) -> optuna.samplers.BaseSampler:
    options = dict(config.sampler.options)
    if config.sampler.name == "tpe":
        return optuna.samplers.TPESampler(**options)
    return optuna.samplers.RandomSampler()


def _make_pruner(config: SweepConfig) -> optuna.pruners.BasePruner:
    pruner = config.pruner
    match pruner.name:
        case "successive_halving":
            # An explicit min_resource: "auto" would live in the instance and be lost with it.
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=pruner.min_epochs, reduction_factor=pruner.reduction_factor
            )
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=pruner.startup_trials, n_warmup_steps=pruner.min_epochs
            )
        case _:
            return optuna.pruners.NopPruner()


def _reseed(sampler: optuna.samplers.BaseSampler, seed: int) -> None:
    """Make a sampler's next suggestion depend on `seed` alone, not on how often it was asked before."""
    seed %= 2**32
    for name in _RESEEDED:
        part = getattr(sampler, name, None)
        if isinstance(part, optuna.samplers.BaseSampler):
            _reseed(part, seed)
        elif part is not None:
            part.rng.seed(seed)


def _mark_diverged(trial: optuna.trial.Trial) -> None:
    """NaN as the only intermediate value, at step 0: samplers rank a pruned trial by how far it came."""
    storage, trial_id = trial.study._storage, trial._trial_id
    frozen = storage.get_trial(trial_id)
    for step in frozen.intermediate_values:
        storage.set_trial_intermediate_value(trial_id, step, math.nan)
    storage.set_trial_intermediate_value(trial_id, 0, math.nan)


def _grid(space: Mapping[str, BaseDistribution], number: int, _seed: int) -> dict[str, Any] | None:
    """The cell of a number in the grid, read as the digits of a mixed-radix number; None past the end."""
    params: dict[str, Any] = {}
    for name, distribution in space.items():
        values = _grid_values(distribution)
        number, index = divmod(number, len(values))
        params[name] = values[index]
    return None if number else params


def _grid_values(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [distribution.low + index * distribution.step for index in range(count)]
    raise ValueError(f"a grid needs a step or choices, but {distribution} has neither")


def _qmc(space: Mapping[str, BaseDistribution], number: int, seed: int) -> dict[str, Any]:
    """The point of a number in a scrambled Sobol sequence over the space."""
    from optuna._transform import _SearchSpaceTransform
    from scipy.stats import qmc

    transform = _SearchSpaceTransform(dict(space), transform_0_1=True)
    engine = qmc.Sobol(d=len(transform.bounds), scramble=True, rng=seed)
    if number:  # scipy refuses to go forward by nothing
        engine.fast_forward(number)
    return transform.untransform(engine.random(1)[0])


_BY_NUMBER = {"grid": _grid, "qmc": _qmc}
