"""The Parquet files beside the folders: up to date, whole, and nobody's truth."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.report.views import Views, keep_views
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5])
    return sweep


def states(sweep: MadeSweep) -> list[str]:
    return list(pq.read_table(sweep.paths.trials_table)["state"].to_pylist())


def test_they_are_written_again_only_if_a_trial_has_changed(sweep: MadeSweep) -> None:
    kept = Views(sweep.folder)

    written = [kept.write(), kept.write()]
    sweep.trial(1, [0.1], state=TrialState.PRUNED)
    written.append(kept.write())

    assert written == [True, False, True]
    assert states(sweep) == ["complete", "pruned"]


def test_a_trial_that_has_not_changed_is_not_read_again(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.report import tables

    kept = Views(sweep.folder)
    kept.write()
    name = sweep.trial(1, [0.1])
    read: list[str] = []
    original = tables.trial_row
    monkeypatch.setattr(tables, "trial_row", lambda trial: read.append(trial.name) or original(trial))
    kept.write()

    assert read == [name]


def test_a_deleted_file_is_written_again(sweep: MadeSweep) -> None:
    kept = Views(sweep.folder)
    kept.write()
    sweep.paths.metrics_table.unlink()

    assert kept.write()
    assert sweep.paths.metrics_table.exists()


def test_leaving_writes_a_last_time_without_waiting_for_the_interval(sweep: MadeSweep) -> None:
    with keep_views(sweep.folder, interval_seconds=1000.0):
        sweep.trial(1, [0.1])

    assert states(sweep) == ["complete", "complete"]


def test_what_goes_wrong_is_logged_and_never_raised(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Views, "write", lambda _: (_ for _ in ()).throw(OSError("no space left")))

    with keep_views(sweep.folder, interval_seconds=1000.0):
        pass

    assert "the Parquet views of digits could not be written" in caplog.text
