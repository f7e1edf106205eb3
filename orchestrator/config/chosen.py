"""Blocks that are chosen by their `name`: who suggests trials, and who ends them early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import Discriminator, Tag

from orchestrator.config.block import Block, Count

__all__ = [
    "CHOSEN_BY_NAME",
    "GridSampler",
    "MedianPruner",
    "NoPruner",
    "Pruner",
    "QmcSampler",
    "RandomSampler",
    "Sampler",
    "SuccessiveHalving",
    "TpeSampler",
]


class TpeOptions(Block):
    """What can be told to the tree-structured Parzen estimator, under Optuna's own names."""

    n_startup_trials: Count = 10
    """Trials drawn at random before the first that is suggested."""
    n_ei_candidates: Count = 24
    """Candidates a suggestion is chosen from."""


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
    reduction_factor: Annotated[int, Ge(2), Le(100)] = 3
    """One trial in so many passes a rung, and each rung is so many times later than the one before."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs, ascending, after which a trial of so many epochs may be ended; its last is none of them."""
        rungs = []
        rung = self.min_epochs
        while rung < epochs:
            rungs.append(rung)
            rung *= self.reduction_factor
        return tuple(rungs)


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


CHOSEN_BY_NAME: Mapping[str, Mapping[str, type[Block]]] = {
    "pruner": {"median": MedianPruner, "none": NoPruner, "successive_halving": SuccessiveHalving},
    "sampler": {"grid": GridSampler, "qmc": QmcSampler, "random": RandomSampler, "tpe": TpeSampler},
}
"""Blocks whose `name` decides which other keys they have."""


def _tag(raw: Any, default: str) -> str:
    name = raw.get("name", default) if isinstance(raw, dict) else getattr(raw, "name", default)
    return f"<{name}>"


Sampler = Annotated[
    Annotated[GridSampler, Tag("<grid>")]
    | Annotated[QmcSampler, Tag("<qmc>")]
    | Annotated[RandomSampler, Tag("<random>")]
    | Annotated[TpeSampler, Tag("<tpe>")],
    Discriminator(lambda raw: _tag(raw, "tpe")),
]

Pruner = Annotated[
    Annotated[MedianPruner, Tag("<median>")]
    | Annotated[NoPruner, Tag("<none>")]
    | Annotated[SuccessiveHalving, Tag("<successive_halving>")],
    Discriminator(lambda raw: _tag(raw, "none")),
]
