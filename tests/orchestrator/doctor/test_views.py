"""Views that disagree with the folders are told, and written again when that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import parse_experiment
from orchestrator.doctor import views
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.views import examine_views
from orchestrator.errors import UnreachableError
from orchestrator.mirror import Mirror
from orchestrator.report.views import Views
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lease import Lease
from tests.support.command import EXPERIMENT
from tests.support.mirroring import MemoryServer, RecordedSweep


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSweep:
    server = MemoryServer()

    def mirror(folder: SweepFolder) -> Mirror:
        return Mirror("http://mlflow.example", folder.paths, connect=server.open)

    monkeypatch.setattr(views, "_mirror", mirror)
    sweep = RecordedSweep(tmp_path)
    sweep.note(finished="complete")
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.finished(0)
    return sweep


def only(checks: list[Check]) -> Check:
    (check,) = checks
    return check


def test_what_is_behind_is_told_and_nothing_is_written(sweep: RecordedSweep) -> None:
    check = only(examine_views(sweep.storage, fix=False))

    assert check.verdict is Verdict.WARN
    assert check.finding == (
        "trials.parquet is wrong about 1 trial(s); there is no report.html; MLflow lacks 1 trial(s)"
    )
    assert check.advice == f"cpsc-orchestrate doctor --fix --storage {sweep.storage}"
    assert not sweep.paths.report.exists()


def test_fixing_brings_everything_up_to_date(sweep: RecordedSweep) -> None:
    fixed = only(examine_views(sweep.storage, fix=True))
    after = only(examine_views(sweep.storage, fix=False))

    assert fixed.verdict is Verdict.OK
    assert fixed.finding.startswith("brought up to date: trials.parquet")
    assert (after.verdict, after.finding) == (Verdict.OK, "agree with the folders")


def test_a_wrong_or_torn_table_is_noticed(sweep: RecordedSweep) -> None:
    examine_views(sweep.storage, fix=True)
    sweep.finished(1)
    stale = only(examine_views(sweep.storage, fix=False)).finding
    sweep.paths.trials_table.write_bytes(b"torn")
    torn = only(examine_views(sweep.storage, fix=False)).finding
    examine_views(sweep.storage, fix=True)

    assert "wrong about 1 trial(s)" in stale
    assert "trials.parquet cannot be read" in torn
    assert only(examine_views(sweep.storage, fix=False)).verdict is Verdict.OK


def test_a_sweep_that_is_running_is_left_to_its_controller(sweep: RecordedSweep) -> None:
    with Lease.acquire(sweep.paths.lease):
        assert examine_views(sweep.storage, fix=True) == []


def test_a_server_that_is_down_does_not_end_the_doctor(
    sweep: RecordedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: Mirror) -> None:
        raise UnreachableError("MLflow is down")

    monkeypatch.setattr(Mirror, "sync", down)

    check = only(examine_views(sweep.storage, fix=True))

    assert (check.verdict, check.finding) == (Verdict.WARN, "MLflow is down")
    assert sweep.paths.trials_table.exists()


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("manifest", "{"),
        ("manifest", "[]"),
        ("result", "{"),
        ("result", '{"state": 5}'),
        ("result", '{"state": []}'),
        ("result", "[]"),
    ],
)
def test_a_sweep_that_cannot_be_read_is_one_row_and_hides_no_other(
    sweep: RecordedSweep, what: str, damage: str
) -> None:
    other = RecordedSweep(sweep.storage, name="other")
    other.note(finished="complete")
    (trial,) = sweep.paths.trials.iterdir()
    (sweep.paths.manifest if what == "manifest" else trial / "result.json").write_text(damage)

    rows = {check.name: check for check in examine_views(sweep.storage, fix=False)}

    assert len(rows) == 2
    check = rows[f"views of {sweep.paths.name}"]
    assert check.verdict is Verdict.WARN
    assert "is damaged" in check.finding
    assert check.advice == "put it back from a copy, or move its folder away"


def test_views_are_made_of_the_folders_alone(sweep: RecordedSweep) -> None:
    sweep.paths.trials_table.write_bytes(b"nonsense")

    Views(SweepFolder(sweep.paths)).write()

    assert views._differing(SweepFolder(sweep.paths)) == 0
