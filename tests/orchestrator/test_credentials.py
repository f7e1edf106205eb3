"""Addresses that may be written nowhere."""

from __future__ import annotations

import pytest

from orchestrator.credentials import find_exposure, holds_credentials, is_in_the_clear


@pytest.mark.parametrize(
    ("address", "holds"),
    [
        ("http://mlflow.example:5000", False),
        ("sqlite:////home/me/mlflow.db", False),
        ("postgresql://mlflow@db/mlflow", False),
        ("postgresql://mlflow:hunter2@db/mlflow", True),
        ("https://token@mlflow.example", True),
        ("https://me:hunter2@mlflow.example", True),
        ("postgresql://db/mlflow?user=me&password=hunter2", True),
        ("postgresql://db/mlflow?user=me&password=", False),
        ("postgresql://db/mlflow?sslmode=require", False),
    ],
)
def test_a_password_or_a_token_in_an_address_is_noticed(address: str, holds: bool) -> None:
    assert holds_credentials(address) is holds


@pytest.mark.parametrize(
    ("address", "in_the_clear"),
    [
        ("http://mlflow.example:5000", True),
        ("http://10.0.0.7:5000", True),
        ("http://localhost.example", True),
        ("http://127.0.0.1.example", True),
        ("https://mlflow.example", False),
        ("http://127.0.0.1:5000", False),
        ("http://127.8.8.8", False),
        ("http://[::1]:5000", False),
        ("http://localhost:5000", False),
        ("sqlite:////runs/mlflow.db", False),
    ],
)
def test_plain_http_beyond_this_machine_is_in_the_clear(address: str, in_the_clear: bool) -> None:
    assert is_in_the_clear(address) is in_the_clear


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_credentials_are_not_sent_for_everybody_to_read(name: str) -> None:
    said = find_exposure("http://mlflow.example", {name: "hunter2"})

    assert said is not None
    assert name in said
    assert "use https" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("address", "environment"),
    [
        ("https://mlflow.example", {"MLFLOW_TRACKING_PASSWORD": "hunter2"}),
        ("http://127.0.0.1:5000", {"MLFLOW_TRACKING_PASSWORD": "hunter2"}),
        ("http://mlflow.example", {}),
        ("http://mlflow.example", {"MLFLOW_TRACKING_PASSWORD": ""}),
        ("http://mlflow.example", {"MLFLOW_TRACKING_TOKEN": "hunter2", "CPSC_PLAIN_HTTP": "allow"}),
    ],
)
def test_credentials_go_where_nobody_else_reads_them_or_where_that_is_wanted(
    address: str, environment: dict[str, str]
) -> None:
    assert find_exposure(address, environment) is None
