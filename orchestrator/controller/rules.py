"""By which rules a sweep is decided."""

from __future__ import annotations

from orchestrator import decide as d
from orchestrator.config import SweepConfig
from orchestrator.store.records import EndClass

__all__ = ["rules_of"]


def rules_of(config: SweepConfig) -> d.Rules:
    """The rules that a sweep's configuration sets."""
    budget = config.budget
    return d.Rules(
        trials=budget.trials,
        retry={EndClass(name): limit for name, limit in config.retry.limits().items()},
        confirm=config.confirm.top > 0,
        seconds=None if budget.hours is None else budget.hours * 3600.0,
        gpu_seconds=None if budget.gpu_hours is None else budget.gpu_hours * 3600.0,
        plateau_trials=budget.plateau.trials if budget.plateau else None,
        plateau_delta=budget.plateau.min_delta if budget.plateau else 0.0,
        maximise=config.objectives[0].direction == "maximize",
    )
