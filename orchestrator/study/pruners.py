"""Optuna's pruners, and the brackets of trials that each of them judges."""

from __future__ import annotations

import binascii
import warnings
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning

from orchestrator.config import SweepConfig
from orchestrator.config.chosen import (
    Hyperband,
    MedianPruner,
    PatientPruner,
    Pruner,
    SuccessiveHalving,
)

__all__ = ["Bracket", "Ladder", "bracket_of", "make_brackets", "make_gate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs of successive halving."""

    first: int
    """Epoch of the first rung."""
    factor: int
    """How many times later each further rung is."""

    def epoch_of(self, rung: int) -> int:
        """Epoch of a rung, from 0."""
        return self.first * int(self.factor**rung)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Trials that are judged beside each other."""

    pruner: optuna.pruners.BasePruner
    """Who judges them."""
    ladder: Ladder | None = None
    """Its rungs; None if it has none."""
    share: int = 1
    """How many of all brackets' trials are put into it."""


def make_brackets(pruner: Pruner, epochs: int) -> list[Bracket]:
    """The brackets of a pruner; all but hyperband have one."""
    match pruner:
        case SuccessiveHalving():
            return [_halving(pruner)]
        case Hyperband():
            return [_halving(halving, share) for halving, share in pruner.brackets(epochs)]
        case MedianPruner():
            median = optuna.pruners.MedianPruner(
                n_startup_trials=pruner.startup_trials, n_warmup_steps=pruner.min_epochs
            )
            return [Bracket(pruner=median)]
        case PatientPruner() if pruner.wraps.name == "none":
            return [Bracket(pruner=_Always())]
        case PatientPruner():
            return make_brackets(pruner.wraps, epochs)
        case _:
            return [Bracket(pruner=optuna.pruners.NopPruner())]


def make_gate(pruner: Pruner) -> optuna.pruners.BasePruner | None:
    """Who must agree before a bracket's pruner is asked at all; None if it always is."""
    if not isinstance(pruner, PatientPruner):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.pruners.PatientPruner(None, patience=pruner.patience, min_delta=pruner.min_delta)


def bracket_of(config: SweepConfig, number: int, brackets: list[Bracket]) -> int:
    """The bracket of a trial's number: Optuna's own choice for a study of the sweep's name."""
    place = binascii.crc32(f"{config.name}_{number}".encode()) % sum(each.share for each in brackets)
    for index, bracket in enumerate(brackets):
        place -= bracket.share
        if place < 0:
            return index
    raise AssertionError("unreachable: the place is less than the sum of all shares")


def _halving(settings: SuccessiveHalving, share: int = 1) -> Bracket:
    first, factor = settings.min_epochs, settings.reduction_factor
    # An explicit min_resource: "auto" would live in the instance and be lost with it.
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    return Bracket(pruner=pruner, ladder=Ladder(first=first, factor=factor), share=share)


class _Always(optuna.pruners.BasePruner):
    """Ends every trial that it is asked about."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True
