"""What shows a sweep, as one: begun together, ended in the right order, never in the controller's way."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_experiment
from orchestrator.errors import FencedError, SilencedError
from orchestrator.store.lease import Lease
from orchestrator.sweep import window
from orchestrator.sweep.window import Window
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep


class Still:
    """A mirror that notes when it is begun and left."""

    def __init__(self, seen: list[str], sweep: MadeSweep) -> None:
        self.seen, self.sweep = seen, sweep

    def __enter__(self) -> Still:
        self.seen.append("mirror begins")
        return self

    def __exit__(self, *_: object) -> None:
        self.seen.append(f"mirror ends, report is there: {self.sweep.paths.report.exists()}")


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    return sweep


@pytest.fixture
def seen(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(window, "Background", lambda *_, **__: Still(seen, sweep))
    monkeypatch.setattr(window.Notifier, "tell", lambda _: seen.append("hook is told"))
    return seen


def opened(sweep: MadeSweep, seen: list[str]) -> Window:
    lease = Lease.acquire(sweep.paths.lease, takeover=True)
    return Window(sweep.paths, parse_experiment(EXPERIMENT).config, lease, seen.append)


def test_the_report_is_written_before_mlflow_is_brought_up_to_date_and_the_hook_is_last(
    sweep: MadeSweep, seen: list[str]
) -> None:
    with opened(sweep, seen):
        sweep.trial(0, [0.5])

    assert seen == [
        "mirror begins",
        "writing the report and bringing MLflow up to date",
        "mirror ends, report is there: True",
        "hook is told",
    ]
    assert sweep.paths.trials_table.exists()
    assert sweep.paths.metrics_table.exists()


def test_a_report_that_cannot_be_written_stops_nothing(
    sweep: MadeSweep, seen: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("orchestrator.report.page.page.write_report", fail)

    with opened(sweep, seen):
        sweep.trial(0, [0.5])

    assert seen[-1] == "hook is told"
    assert "the report of digits could not be written" in caplog.text


def test_a_sweep_without_trials_ends_without_a_report(sweep: MadeSweep, seen: list[str]) -> None:
    with opened(sweep, seen):
        pass

    assert not sweep.paths.report.exists()
    assert seen[-1] == "hook is told"


def test_an_error_of_the_controller_passes_through(sweep: MadeSweep, seen: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), opened(sweep, seen):
        raise ZeroDivisionError

    assert seen[-1] == "hook is told"


def test_the_state_in_the_report_is_how_the_sweep_ended_although_it_is_still_owned(
    sweep: MadeSweep, seen: list[str]
) -> None:
    with opened(sweep, seen):
        sweep.trial(0, [0.5])

    assert "complete: 1 complete" in sweep.paths.report.read_text()


@pytest.mark.parametrize("notices", [FencedError("lost"), ZeroDivisionError(), None])
def test_a_sweep_that_was_taken_over_is_left_to_the_other_controller(
    sweep: MadeSweep, seen: list[str], notices: Exception | None
) -> None:
    def leave() -> None:
        with opened(sweep, seen):
            sweep.trial(0, [0.5])
            Lease.acquire(sweep.paths.lease, takeover=True)
            if notices is not None:
                raise notices

    with pytest.raises(type(notices)) if notices else nullcontext():
        leave()

    assert seen == ["mirror begins", "mirror ends, report is there: False"]
    assert not sweep.paths.trials_table.exists()


def test_a_lease_that_cannot_be_read_is_not_lost(sweep: MadeSweep, seen: list[str]) -> None:
    with opened(sweep, seen):
        sweep.trial(0, [0.5])
        sweep.paths.lease.unlink()
        sweep.paths.lease.write_text("no lease")

    assert seen[-1] == "hook is told"


def test_a_controller_that_was_cut_off_tells_the_hook_and_shows_nothing(
    sweep: MadeSweep, seen: list[str]
) -> None:
    with pytest.raises(SilencedError), opened(sweep, seen):
        raise SilencedError("this controller has not reached the bucket")

    assert seen == ["mirror begins", "mirror ends, report is there: False", "hook is told"]
