"""Blocks that are chosen by their `name`: who suggests trials, and who ends them early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import Discriminator, Tag

from orchestrator.config.block import Block, Count

__all__ = [
    "CHOSEN_BY_NAME",
    "GpSampler",
    "GridSampler",
    "Hyperband",
    "MedianPruner",
    "NoPruner",
    "NsgaiiSampler",
    "PatientPruner",
    "Pruner",
    "QmcSampler",
    "RandomSampler",
    "Sampler",
    "SuccessiveHalving",
    "TpeSampler",
    "WRAPPED_BY_NAME",
]

Probability = Annotated[float, Ge(0.0), Le(1.0)]
ReductionFactor = Annotated[int, Ge(2), Le(100)]


class TpeOptions(Block):
    """What can be told to the tree-structured Parzen estimator, under Optuna's own names."""

    n_startup_trials: Count = 10
    """Trials drawn at random before the first that is suggested."""
    n_ei_candidates: Count = 24
    """Candidates a suggestion is chosen from."""
    multivariate: bool | None = None
    """Whether parameters are chosen together; null: with one objective."""
    group: bool | None = None
    """Whether parameters that are tried together are chosen together; null: where some have a `when`."""
    constant_liar: bool = True
    """Whether trials that still run count as bad, so that none is suggested beside them."""


class GpOptions(Block):
    """What can be told to the Gaussian process, under Optuna's own names."""

    n_startup_trials: Count = 10
    """Complete trials, drawn at random, before the first that is suggested."""
    deterministic_objective: bool = False
    """Whether the same parameters always give the same value; false: it is taken to be noisy."""


class NsgaiiOptions(Block):
    """What can be told to the genetic algorithm, under Optuna's own names."""

    population_size: Annotated[int, Ge(3), Le(100_000)] = 50
    """Complete trials of a generation; the first generation is drawn at random."""
    mutation_prob: Probability | None = None
    """How likely a parameter is drawn afresh; null: one in as many as there are."""
    crossover: Literal["blxalpha", "sbx", "spx", "undx", "uniform", "vsbx"] = "uniform"
    """How parents' numbers are mixed; choices are always taken from one of them."""
    crossover_prob: Probability = 0.9
    """How likely a trial has several parents rather than one."""
    swapping_prob: Probability = 0.5
    """How likely a parameter comes from the second parent; for uniform crossover."""


class NoOptions(Block):
    """This sampler has no options."""


class _Sampler(Block):
    seed: Annotated[int, Ge(0)] = 0
    """A suggestion is a function of it, of its own number and of the trials before it."""


class TpeSampler(_Sampler):
    """Tries what resembles the best trials so far."""

    name: Literal["tpe"] = "tpe"
    """tpe."""
    options: TpeOptions = TpeOptions()
    """What can be told to it."""


class GpSampler(_Sampler):
    """Tries what a Gaussian process of the complete trials expects most of; for some hundred trials."""

    name: Literal["gp"] = "gp"
    """gp."""
    options: GpOptions = GpOptions()
    """What can be told to it."""


class NsgaiiSampler(_Sampler):
    """Breeds generations of trials from the best of those before; for several objectives."""

    name: Literal["nsgaii"] = "nsgaii"
    """nsgaii."""
    options: NsgaiiOptions = NsgaiiOptions()
    """What can be told to it."""


class RandomSampler(_Sampler):
    """Draws every trial on its own."""

    name: Literal["random"] = "random"
    """random."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class GridSampler(_Sampler):
    """Tries every combination once, in order; fractions need a step or choices."""

    name: Literal["grid"] = "grid"
    """grid."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class QmcSampler(_Sampler):
    """Covers the space evenly with a scrambled Sobol sequence."""

    name: Literal["qmc"] = "qmc"
    """qmc."""
    options: NoOptions = NoOptions()
    """Nothing can be told to it."""


class SuccessiveHalving(Block):
    """Lets only the best part of the trials go on past each rung."""

    name: Literal["successive_halving"] = "successive_halving"
    """successive_halving."""
    min_epochs: Count = 1
    """Epoch of the first rung."""
    reduction_factor: ReductionFactor = 3
    """One trial in so many passes a rung, and each rung is so many times later than the one before."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs, ascending, after which a trial of so many epochs may be ended; its last is none of them."""
        rungs = []
        rung = self.min_epochs
        while rung < epochs:
            rungs.append(rung)
            rung *= self.reduction_factor
        return tuple(rungs)


class Hyperband(Block):
    """Shares the trials out among brackets of successive halving, the first rung of each later than the last.

    A bracket whose first rung is late costs more epochs and forgives a slow start. A trial's bracket is a
    function of the sweep's name and the trial's number.
    """

    name: Literal["hyperband"] = "hyperband"
    """hyperband."""
    min_epochs: Count = 1
    """Epoch of the first rung of the first bracket."""
    reduction_factor: ReductionFactor = 3
    """One trial in so many passes a rung; each rung and each bracket begins so many times later."""

    def brackets(self, epochs: int) -> list[tuple[SuccessiveHalving, int]]:
        """Each bracket's successive halving for trials of so many epochs, and its share of the trials.

        As Optuna has them: every start of a ladder up to the last epoch, where nobody is ended any more.
        """
        factor = self.reduction_factor
        count = math.floor(math.log(epochs / self.min_epochs, factor)) + 1
        return [
            (
                SuccessiveHalving(min_epochs=self.min_epochs * factor**index, reduction_factor=factor),
                math.ceil(count * factor**left / (left + 1)),
            )
            for index, left in enumerate(reversed(range(count)))
        ]


class MedianPruner(Block):
    """Ends a trial that is worse than the median of the earlier ones at the same epoch."""

    name: Literal["median"] = "median"
    """median."""
    min_epochs: Count = 1
    """Epochs every trial is given before it may be ended."""
    startup_trials: Count = 5
    """Trials that must be complete before one is ended."""


class NoPruner(Block):
    """Lets every trial run to its end."""

    name: Literal["none"] = "none"
    """none."""


def _tag(raw: Any, default: str) -> str:
    name = raw.get("name", default) if isinstance(raw, dict) else getattr(raw, "name", default)
    return f"<{name}>"


WrappedPruner = Annotated[
    Annotated[Hyperband, Tag("<hyperband>")]
    | Annotated[MedianPruner, Tag("<median>")]
    | Annotated[NoPruner, Tag("<none>")]
    | Annotated[SuccessiveHalving, Tag("<successive_halving>")],
    Discriminator(lambda raw: _tag(raw, "none")),
]


class PatientPruner(Block):
    """Ends a trial only once it has not improved for a while, and another pruner would end it then."""

    name: Literal["patient"] = "patient"
    """patient."""
    patience: Annotated[int, Ge(0), Le(100_000)] = 5
    """Epochs without an improvement that a trial is given."""
    min_delta: Annotated[float, Ge(0.0)] = 0.0
    """A trial that falls short of its best by no more than this counts as improving."""
    wraps: WrappedPruner = NoPruner()
    """Who is asked then; none: the trial ends."""


CHOSEN_BY_NAME: Mapping[str, Mapping[str, type[Block]]] = {
    "pruner": {
        "hyperband": Hyperband,
        "median": MedianPruner,
        "none": NoPruner,
        "patient": PatientPruner,
        "successive_halving": SuccessiveHalving,
    },
    "sampler": {
        "gp": GpSampler,
        "grid": GridSampler,
        "nsgaii": NsgaiiSampler,
        "qmc": QmcSampler,
        "random": RandomSampler,
        "tpe": TpeSampler,
    },
}
"""Blocks whose `name` decides which other keys they have."""

WRAPPED_BY_NAME: Mapping[str, type[Block]] = {
    name: block for name, block in CHOSEN_BY_NAME["pruner"].items() if name != "patient"
}
"""Pruners that `pruner.wraps` may name."""

Sampler = Annotated[
    Annotated[GpSampler, Tag("<gp>")]
    | Annotated[GridSampler, Tag("<grid>")]
    | Annotated[NsgaiiSampler, Tag("<nsgaii>")]
    | Annotated[QmcSampler, Tag("<qmc>")]
    | Annotated[RandomSampler, Tag("<random>")]
    | Annotated[TpeSampler, Tag("<tpe>")],
    Discriminator(lambda raw: _tag(raw, "tpe")),
]

Pruner = Annotated[
    Annotated[Hyperband, Tag("<hyperband>")]
    | Annotated[MedianPruner, Tag("<median>")]
    | Annotated[NoPruner, Tag("<none>")]
    | Annotated[PatientPruner, Tag("<patient>")]
    | Annotated[SuccessiveHalving, Tag("<successive_halving>")],
    Discriminator(lambda raw: _tag(raw, "none")),
]
