from __future__ import annotations

import io
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main, watch
from orchestrator.errors import TrackingError, UnreachableError
from orchestrator.store.lease import Lease
from orchestrator.store.records import TrialState
from tests.support.folders import URI, MadeSweep


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5])
    sweep.trial(1, [0.6, 0.7])
    sweep.trial(2, [0.1], state=TrialState.FAILED, cause="hang", detail="no step in 120 s")
    return sweep


@pytest.mark.parametrize("command", ["status", "best"])
def test_json_is_one_document_and_nothing_else(sweep: MadeSweep, command: str) -> None:
    result = run(command, "digits", "--storage", str(sweep.storage), "--json")

    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(json.loads(result.stdout), dict)


def test_what_is_not_a_number_is_null_in_json(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [float("nan")], state=None)

    result = run("status", "digits", "--storage", str(tmp_path), "--json")

    assert "NaN" not in result.stdout
    assert json.loads(result.stdout)["trials"][0]["objective"] is None


def test_a_sweep_is_found_by_name_or_by_path(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep.storage)

    by_name = run("status", "digits", "--storage", str(sweep.storage))
    by_path = run("status", str(sweep.paths.root))
    relative = run("status", "./digits", "--storage", "/nowhere")

    assert by_name.stdout == by_path.stdout == relative.stdout
    assert by_name.stdout.startswith("digits is complete: 2 complete, 1 failed; best 0.7000 by trial 1\n")


def test_the_home_folder_is_known_in_storage(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sweep.storage.parent))

    assert run("status", "digits", f"--storage=~/{sweep.storage.name}").exit_code == 0


def test_sweeps_lie_in_the_home_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    MadeSweep(tmp_path / "cpsc-runs")

    assert run("status", "digits").exit_code == 0


def test_a_sweep_that_is_not_there_is_told_with_those_that_are(sweep: MadeSweep) -> None:
    result = run("best", "digit", "--storage", str(sweep.storage))

    assert result.exit_code == 2
    assert "it holds digits" in result.stderr
    assert result.stderr.endswith("next: cpsc-orchestrate best --help\n")


def test_best_shows_what_a_finished_sweep_shows(sweep: MadeSweep) -> None:
    result = run("best", "digits", "--storage", str(sweep.storage))

    assert "best parameters (trial 1, 000000000001):" in result.stdout
    assert f"browse   cpsc-orchestrate ui --storage {sweep.storage}" in result.stdout


def test_watching_ends_with_the_sweep_and_tells_only_what_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = MadeSweep(tmp_path, manifest={"finished": None})
    lease = Lease.acquire(sweep.paths.lease)
    steps = iter([lambda: None, lambda: sweep.trial(0, [0.5]), lambda: None, lease.release])
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(steps)())

    result = run("status", "digits", "--storage", str(tmp_path), "--watch")

    assert result.stdout.splitlines() == [
        "digits is running: no trials yet",
        "digits is running: 1 complete; best 0.5000 by trial 0",
        "digits is interrupted: 1 complete; best 0.5000 by trial 0",
    ]


def test_many_documents_are_not_one(sweep: MadeSweep) -> None:
    result = run("status", "digits", "--storage", str(sweep.storage), "--watch", "--json")

    assert (result.exit_code, result.stdout) == (2, "")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the mirror, which answers without MLflow."""
    from orchestrator import mirror

    asked: list[Any] = []

    class Fake:
        def __init__(self, uri: str, paths: Any) -> None:
            asked.append((uri, paths))

        def sync(self) -> mirror.Synced:
            return mirror.Synced(runs=2, points=30)

        def register_best(self) -> dict[str, str]:
            return {"name": "digits", "version": "1"}

    monkeypatch.setattr(mirror, "Mirror", Fake)
    return asked


def test_sync_mirrors_to_the_sweeps_own_server_and_counts_what_it_sent(
    sweep: MadeSweep, synced: list[Any]
) -> None:
    sweep.note(tracking_uri="https://mlflow.example.org?key=secret")

    told = run("sync", "digits", "--storage", str(sweep.storage))
    document = run("sync", "digits", "--storage", str(sweep.storage), "--json")

    assert synced == [("https://mlflow.example.org?key=secret", sweep.paths)] * 2
    assert told.stdout == (
        "digits is mirrored to https://mlflow.example.org; sent: 2 runs, 30 points\n"
        "the best student is version 1 of model digits\n"
    )
    assert json.loads(document.stdout) == {
        "sweep": "digits",
        "tracking_uri": "https://mlflow.example.org",
        "runs": 2,
        "points": 30,
        "images": 0,
        "files": 0,
        "statuses": 0,
        "registered": {"name": "digits", "version": "1"},
    }


def test_sync_mirrors_to_another_server_too(sweep: MadeSweep, synced: list[Any]) -> None:
    at = ["--storage", str(sweep.storage), "--to", "https://other.example?key=secret", "--no-register"]

    told = run("sync", "digits", *at)

    assert synced == [("https://other.example?key=secret", sweep.paths)]
    assert told.stdout == "digits is mirrored to https://other.example; sent: 2 runs, 30 points\n"


def test_status_tells_what_mlflow_lacks(sweep: MadeSweep) -> None:
    told = run("status", "digits", "--storage", str(sweep.storage))
    document = json.loads(run("status", "digits", "--storage", str(sweep.storage), "--json").stdout)

    assert f"lacks 3 trial(s); `cpsc-orchestrate sync {sweep.paths.root}` sends them" in told.stdout
    assert document["mirror"] == {"uri": URI, "backlog": 3}


def test_ui_becomes_the_server(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep.paths.storage.mlflow_database.touch()
    started: list[Any] = []
    monkeypatch.setattr(os, "execvpe", lambda *what: started.append(what))

    result = run("ui", "--storage", str(sweep.storage), "--port", "5001")

    ((program, arguments, environment),) = started
    assert program == arguments[0]
    assert arguments[arguments.index("--port") + 1] == "5001"
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "http://127.0.0.1:5001" in result.stdout


def test_ui_leads_to_the_runs_of_every_sweep(sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(sweep.paths.storage.mlflow_database) as database:
        database.execute("create table experiments (experiment_id integer, name text, lifecycle_stage text)")
        rows = [(0, "Default", "active"), (3, "digits", "active"), (4, "gone", "deleted")]
        database.executemany("insert into experiments values (?, ?, ?)", rows)
    monkeypatch.setattr(os, "execvpe", lambda *_: None)

    result = run("ui", "--storage", str(sweep.storage))

    assert result.stdout.splitlines()[1:] == ["digits  http://127.0.0.1:5000/#/experiments/3/runs"]


def test_ui_does_not_make_an_empty_database(tmp_path: Path) -> None:
    result = run("ui", "--storage", str(tmp_path))

    assert result.exit_code == 2
    assert f"cpsc-orchestrate sync SWEEP --storage {tmp_path}" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [TrackingError, UnreachableError])
def test_a_server_that_does_not_take_it_is_tried_again_the_same_way(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    from orchestrator import mirror

    def refuse(*_: Any) -> None:
        raise kind("the server says no")

    monkeypatch.setattr(mirror, "Mirror", refuse)

    result = run("sync", "digits", "--storage", str(sweep.storage))

    assert result.exit_code == 3
    again = f"cpsc-orchestrate sync digits --storage {sweep.storage}"
    assert result.stderr == f"error: the server says no; next: {again}\n"


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_table_is_redrawn_until_the_sweep_ends(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.note(finished=None)
    lease = Lease.acquire(sweep.paths.lease)
    monkeypatch.setattr(watch.time, "sleep", lambda _: lease.release())
    stream = Terminal()

    watch.watch_status(sweep.folder, stream)

    frames = stream.getvalue()
    assert "digits is running" in frames
    assert frames.rindex("digits is interrupted") > frames.rindex("digits is running")
    assert "hang: no step in 120 s" in frames
