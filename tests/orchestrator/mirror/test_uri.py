"""Tracking URIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.mirror.uri import (
    artifacts_beside,
    check_uri,
    database_path,
    default_uri,
    is_server,
    public_uri,
)
from orchestrator.store.paths import StoragePaths


@pytest.mark.parametrize(
    "uri",
    ["https://me:hunter2@mlflow.example", "http://hunter2@mlflow.example", "postgresql://me:hunter2@db/x"],
)
def test_credentials_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match="carries credentials") as refusal:
        check_uri(uri)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["http://mlflow.example:5000", "sqlite:////a@b/mlflow.db", "databricks"])
def test_other_uris_are_left_as_they_are(uri: str) -> None:
    assert check_uri(uri) == uri


def test_the_default_database_is_found_again_in_its_uri(tmp_path: Path) -> None:
    storage = StoragePaths(tmp_path)

    assert database_path(default_uri(storage)) == storage.mlflow_database


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://a/b", "postgresql://db/x"])
def test_what_is_no_file_has_no_path(uri: str) -> None:
    assert database_path(uri) is None


def test_a_query_is_kept_to_ourselves() -> None:
    assert public_uri("postgresql://db/x?password=hunter2") == "postgresql://db/x"


def test_only_a_web_address_is_a_server() -> None:
    assert [is_server(uri) for uri in ("http://a", "https://a", "sqlite:///a")] == [True, True, False]


def test_what_runs_carry_lies_beside_their_database_wherever_the_command_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = StoragePaths(tmp_path)

    assert artifacts_beside(default_uri(storage)) == storage.mlflow_artifacts
    assert artifacts_beside("http://mlflow.example:5000") is None
    monkeypatch.chdir(tmp_path)
    assert artifacts_beside("sqlite:///team.db") == storage.mlflow_artifacts
