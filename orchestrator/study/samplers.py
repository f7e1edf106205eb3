"""Optuna's samplers, made anew for every suggestion so that none of them remembers anything.

What Optuna 5 keeps in a sampler's instance would make a suggestion depend on how often the sampler was asked
before: its random stream, the kernel of the last fit (gp), the order in which groups were found (tpe). A new
instance with a seed of its own has none of it. What NSGA-II keeps in the study is handled in `search`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from orchestrator.config import SweepConfig
from orchestrator.study.tpe import RememberingTpe

__all__ = ["new_sampler"]

Sampler = optuna.samplers.BaseSampler

_HANDED_ON = ("_search_space", "_intersection_search_space", "_rows")


def new_sampler(config: SweepConfig, seed: int, before: Sampler | None = None) -> Sampler:
    """The sampler of an experiment, whose draws depend on `seed` alone.

    `before` is the sampler that the same study was asked with before. It hands on what it has read about the
    trials: the same for everybody, but slow to read again where there are thousands.
    """
    options = {name: value for name, value in config.sampler.options if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = _MAKERS[config.sampler.name](config, seed % 2**32, options)
    for name in _HANDED_ON:
        if before is not None and hasattr(sampler, name):
            setattr(sampler, name, getattr(before, name))
    return sampler


def _tpe(config: SweepConfig, seed: int, options: Mapping[str, Any]) -> Sampler:
    conditional = any(spec.when for spec in config.search.values())
    together = options.get("multivariate", len(config.objectives) == 1)
    group = options.get("group", conditional and together)
    return RememberingTpe(**{**options, "multivariate": together or group, "group": group}, seed=seed)


def _gp(_config: SweepConfig, seed: int, options: Mapping[str, Any]) -> Sampler:
    return optuna.samplers.GPSampler(**options, seed=seed, warn_independent_sampling=False)


def _nsgaii(_config: SweepConfig, seed: int, options: Mapping[str, Any]) -> Sampler:
    rest = dict(options)
    crossover = _CROSSOVERS[rest.pop("crossover")](rest["swapping_prob"])
    return optuna.samplers.NSGAIISampler(**rest, crossover=crossover, seed=seed)


def _random(_config: SweepConfig, seed: int, _options: Mapping[str, Any]) -> Sampler:
    return optuna.samplers.RandomSampler(seed=seed)


_CROSSOVERS: Mapping[str, Callable[[float], optuna.samplers.nsgaii.BaseCrossover]] = {
    "blxalpha": lambda _: optuna.samplers.nsgaii.BLXAlphaCrossover(),
    "sbx": lambda _: optuna.samplers.nsgaii.SBXCrossover(),
    "spx": lambda _: optuna.samplers.nsgaii.SPXCrossover(),
    "undx": lambda _: optuna.samplers.nsgaii.UNDXCrossover(),
    "uniform": optuna.samplers.nsgaii.UniformCrossover,
    "vsbx": lambda _: optuna.samplers.nsgaii.VSBXCrossover(),
}

_MAKERS: Mapping[str, Callable[[SweepConfig, int, Mapping[str, Any]], Sampler]] = {
    "gp": _gp,
    "nsgaii": _nsgaii,
    "random": _random,
    "tpe": _tpe,
}
