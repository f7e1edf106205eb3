"""Which search trials are better: by one objective, or by several of which none counts more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Result, Stage, TrialState

__all__ = ["Goal", "front", "rank", "values_of"]


class Goal(Protocol):
    """What more or less of is better."""

    @property
    def metric(self) -> str:
        """Its name."""

    @property
    def direction(self) -> str:
        """maximize or minimize."""


def rank(trials: Iterable[TrialFolder], goals: Sequence[Goal]) -> list[TrialFolder]:
    """Complete search trials that keep every constraint, the best first, ties by number.

    They are in the order of the first objective; with several, those on the front come before all others.
    Pruned and failed trials are left out, and so is a trial with an objective that is not a number.
    """
    scored = [(trial, values_of(trial.result, goals)) for trial in trials if _may_be_best(trial)]
    costs = [(_costs(found, goals), trial) for trial, found in scored if found is not None]
    costs.sort(key=lambda each: (each[0][0], _number(each[1])))
    if len(goals) == 1:
        return [trial for _, trial in costs]
    best = set(_front([cost for cost, _ in costs]))
    return [
        costs[place][1] for place in sorted(range(len(costs)), key=lambda place: (place not in best, place))
    ]


def front(trials: Iterable[TrialFolder], goals: Sequence[Goal]) -> list[TrialFolder]:
    """The ranked trials that no other one beats: better in one objective and worse in none."""
    ranked = rank(trials, goals)
    costs = [_costs(values_of(each.result, goals) or (), goals) for each in ranked]
    return [ranked[place] for place in _front(costs)]


def values_of(result: Result | None, goals: Sequence[Goal]) -> tuple[float, ...] | None:
    """A complete trial's value of every objective; None if it is not complete or one is not a number."""
    if result is None or result.state is not TrialState.COMPLETE:
        return None
    found = (result.objective,) if len(goals) == 1 else tuple(result.objectives.get(g.metric) for g in goals)
    known = tuple(value for value in found if value is not None and not math.isnan(value))
    return known if len(known) == len(found) else None


def _may_be_best(trial: TrialFolder) -> bool:
    return trial.record.stage is Stage.SEARCH and trial.result is not None and trial.result.is_feasible


def _costs(found: Sequence[float], goals: Sequence[Goal]) -> tuple[float, ...]:
    """Values of which less is better."""
    signs = (-1.0 if goal.direction == "maximize" else 1.0 for goal in goals)
    return tuple(sign * value for sign, value in zip(signs, found, strict=True))


def _front(costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Places of the points that no other point beats, in order; equal points are all among them."""
    best: list[int] = []
    for place in sorted(range(len(costs)), key=costs.__getitem__):
        if not any(_beats(costs[other], costs[place]) for other in best):
            best.append(place)
    return sorted(best)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _number(trial: TrialFolder) -> float:
    return math.inf if trial.record.number is None else trial.record.number
