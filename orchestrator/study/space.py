"""The search space as Optuna distributions, and which of its parameters exist beside others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from orchestrator.config import Choices, ParamSpec, SweepConfig, holds, in_order, is_active

__all__ = ["Space", "suggest"]


class Space:
    """What may be suggested."""

    def __init__(self, config: SweepConfig) -> None:
        self._search = config.search
        self.distributions = {path: _distribution(config.search[path]) for path in in_order(config.search)}
        """By dotted path, every parameter after those that its condition names."""
        self.is_conditional = any(spec.when for spec in config.search.values())
        """Whether some parameters exist only beside certain values of others."""

    def paths(self, params: Mapping[str, Any]) -> Iterator[str]:
        """The parameters that exist, in order, looking at `params` again after each."""
        return (path for path in self.distributions if is_active(self._search, path, params))

    def fill(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """Parameters with values that are looked up one by one, those that do not exist left out."""
        params: dict[str, Any] = {}
        for path in self.paths(params):
            params[path] = value_of(path)
        return params

    def of(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """The distributions of some parameters."""
        return {path: self.distributions[path] for path in params}

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether every value may be tried."""
        return all(holds(self._search[path], value) for path, value in params.items())

    def to_json(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The distributions of some parameters as Optuna writes them."""
        return {path: distribution_to_json(each) for path, each in self.of(params).items()}


def suggest(trial: optuna.trial.Trial, path: str, distribution: BaseDistribution) -> Any:
    """The sampler's value for a parameter of a trial."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(path, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(path, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(path, choices)
    raise TypeError(f"no sampler knows {distribution}")


def _distribution(spec: ParamSpec) -> BaseDistribution:
    if isinstance(spec, Choices):
        return CategoricalDistribution(spec.choices)
    if isinstance(spec.low, int) and isinstance(spec.high, int):
        return IntDistribution(spec.low, spec.high, log=spec.log, step=int(spec.step or 1))
    return FloatDistribution(spec.low, spec.high, log=spec.log, step=spec.step)
