"""Which configurations are confirmed, and as which trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cpsc_core.settings import TrialSettings
from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Stage, TrialRecord

__all__ = ["best_trials", "confirm_records"]


def best_trials(trials: Sequence[TrialFolder], direction: str, top: int) -> list[TrialFolder]:
    """The best complete search trials, the best first, ties by number."""
    sign = -1.0 if direction == "maximize" else 1.0
    ranked = [
        (sign * trial.result.objective, trial.record.number, trial)
        for trial in trials
        if trial.record.number is not None and trial.result and trial.result.objective is not None
    ]
    return [trial for _, _, trial in sorted(ranked, key=lambda entry: entry[:2])[:top]]


def confirm_records(best: Sequence[TrialFolder], seeds: int, **stamp: Any) -> list[TrialRecord]:
    """Records of the trials that run each configuration again: fresh seeds, and the test split open.

    `stamp` is what the controller puts on every record: created and generation.
    """
    return [_again(trial.record, offset, stamp) for trial in best for offset in range(1, seeds + 1)]


def _again(record: TrialRecord, offset: int, stamp: dict[str, Any]) -> TrialRecord:
    settings = TrialSettings.from_dict(record.settings)
    train = replace(settings.train, seed=settings.train.seed + offset)
    again = replace(settings, train=train, splits=("val", "test"))
    return replace(
        record,
        name=again.identity(),
        number=None,
        stage=Stage.CONFIRM,
        system_attrs={},
        settings=again.to_dict(),
        **stamp,
    )
