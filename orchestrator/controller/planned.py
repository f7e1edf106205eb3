"""Records of trials that are to run: those that the search suggests, and those that confirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cpsc_core.settings import TrialSettings
from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Duplicate, Stage, TrialRecord
from orchestrator.study.search import Suggestion

__all__ = ["confirm_records", "duplicate_record", "search_record"]


def search_record(suggestion: Suggestion, settings: TrialSettings, **stamp: Any) -> TrialRecord:
    """The record of the trial that a suggestion asks for; `stamp` is its created and generation."""
    return TrialRecord(
        name=settings.identity(),
        number=suggestion.number,
        stage=Stage.SEARCH,
        params=suggestion.params,
        distributions=suggestion.distributions,
        system_attrs=suggestion.system_attrs,
        settings=settings.to_dict(),
        **stamp,
    )


def duplicate_record(suggestion: Suggestion, name: str, generation: int) -> Duplicate:
    """The record of a suggestion that asks for a trial which is there already."""
    return Duplicate(
        number=suggestion.number,
        name=name,
        params=suggestion.params,
        distributions=suggestion.distributions,
        system_attrs=suggestion.system_attrs,
        generation=generation,
    )


def confirm_records(best: Sequence[TrialFolder], seeds: int, **stamp: Any) -> list[TrialRecord]:
    """Records of the trials that run each configuration again: fresh seeds, and the test split open.

    `stamp` is their created and generation.
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
