"""Samplers that need no memory: a suggestion is a function of its number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.config import SweepConfig
from orchestrator.study.space import Space

__all__ = ["BY_NUMBER", "cells", "grid", "qmc"]


def grid(space: Space, number: int, _seed: int) -> dict[str, Any] | None:
    """The cell of a number in the grid, the last parameter turning fastest; None past the end."""
    return next(itertools.islice(_cells(space, list(space.distributions), {}), number, None), None)


def cells(config: SweepConfig) -> int:
    """How many cells the grid of an experiment has, as far as its budget goes."""
    space = Space(config)
    every = _cells(space, list(space.distributions), {})
    return sum(1 for _ in itertools.islice(every, config.budget.trials))


def qmc(space: Space, number: int, seed: int) -> dict[str, Any]:
    """The point of a number in a scrambled Sobol sequence over the space."""
    from optuna._transform import _SearchSpaceTransform
    from scipy.stats import qmc as sequences

    transform = _SearchSpaceTransform(space.distributions, transform_0_1=True)
    engine = sequences.Sobol(d=len(transform.bounds), scramble=True, rng=seed)
    if number:  # scipy refuses to go forward by nothing
        engine.fast_forward(number)
    return space.fill(transform.untransform(engine.random(1)[0]).__getitem__)


def _cells(space: Space, left: Sequence[str], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination once: where a parameter does not exist its values make no difference."""
    if not left:
        yield dict(params)
        return
    path, *rest = left
    if path not in space.paths(params):
        yield from _cells(space, rest, params)
        return
    for value in _values(space.distributions[path]):
        yield from _cells(space, rest, {**params, path: value})


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [distribution.low + index * distribution.step for index in range(count)]
    raise ValueError(f"a grid needs a step or choices, but {distribution} has neither")


BY_NUMBER: Mapping[str, Callable[[Space, int, int], dict[str, Any] | None]] = {"grid": grid, "qmc": qmc}
"""Samplers by name: (space, number, seed) to parameters, or None where there are no more."""
