"""The MLflow server of a storage folder, and mirroring through a server over a bad line."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, UsageError
from orchestrator.mirror.server import ui_command
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.uri import default_uri
from orchestrator.store.paths import StoragePaths
from tests.support.mirroring import RecordedSweep
from tests.support.serving import free_port, serving


def option(command: Sequence[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_server_listens_on_this_machine_and_runs_nothing(tmp_path: Path) -> None:
    storage = StoragePaths(tmp_path)

    command, environment = ui_command(storage, None, port=5001)

    assert command[0] == sys.executable
    assert option(command, "--host") == "127.0.0.1"
    assert option(command, "--port") == "5001"
    assert option(command, "--backend-store-uri") == default_uri(storage)
    assert option(command, "--default-artifact-root") == storage.mlflow_artifacts.as_uri()
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"
    assert environment.items() >= {("PATH", os.environ["PATH"])}


def test_the_environment_cannot_switch_the_safe_choices_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")

    _, environment = ui_command(StoragePaths(tmp_path), None)

    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_settings_are_ones_that_mlflow_knows(tmp_path: Path) -> None:
    import mlflow.environment_variables as known

    _, environment = ui_command(StoragePaths(tmp_path), None)

    ours = {name for name in environment.keys() - os.environ.keys() if name.startswith("MLFLOW_")}
    assert ours <= vars(known).keys()


def test_a_server_needs_no_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"open https://mlflow\.example in a browser"):
        ui_command(StoragePaths(tmp_path), "https://mlflow.example")
    with pytest.raises(ConfigError, match="carries credentials"):
        ui_command(StoragePaths(tmp_path), "postgresql://me:hunter2@db/x")


def ask(url: str, question: Mapping[str, object] | None = None) -> bytes:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30.0) as answer:  # noqa: S310
        return bytes(answer.read())


@pytest.mark.slow
def test_a_person_can_browse_what_was_mirrored(tmp_path: Path, make_database: Callable[[Path], str]) -> None:
    sweep = RecordedSweep(tmp_path / "storage")
    storage = sweep.paths.storage
    make_database(storage.mlflow_database)
    trial = sweep.finished(0)
    Mirror(default_uri(storage), sweep.paths).close()

    with serving(*ui_command(storage, None, port=free_port()), log=tmp_path / "server.log") as url:
        found = json.loads(ask(f"{url}/api/2.0/mlflow/experiments/search", {"max_results": 10}))
        names = {each["name"]: each["experiment_id"] for each in found["experiments"]}
        runs = json.loads(ask(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": [names["digits"]]}))[
            "runs"
        ]
        (run_id,) = (run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "trial-000")
        images = json.loads(ask(f"{url}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=images"))["files"]
        grid = next(each["path"] for each in images if each["path"].endswith(".png"))
        picture = ask(f"{url}/get-artifact?run_uuid={run_id}&path={grid.replace('+', '%2B')}")
        page = ask(url)

    assert len(runs) == 2
    assert json.loads(trial.mirror.read_text())[default_uri(storage)]["run_id"] == run_id
    assert picture.startswith(b"\x89PNG")
    assert b"MLflow" in page
