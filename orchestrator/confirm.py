"""As which trials configurations are confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cpsc_core.settings import TrialSettings
from orchestrator.store.folder import TrialFolder
from orchestrator.store.records import Stage, TrialRecord

__all__ = ["confirm_records"]


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
