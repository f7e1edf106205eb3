"""Addresses that may be written nowhere."""

from __future__ import annotations

import pytest

from orchestrator.credentials import holds_credentials


@pytest.mark.parametrize(
    ("address", "holds"),
    [
        ("http://mlflow.example:5000", False),
        ("sqlite:////home/me/mlflow.db", False),
        ("postgresql://mlflow@db/mlflow", False),
        ("postgresql://mlflow:hunter2@db/mlflow", True),
        ("https://token@mlflow.example", True),
        ("https://me:hunter2@mlflow.example", True),
    ],
)
def test_a_password_or_a_token_in_an_address_is_noticed(address: str, holds: bool) -> None:
    assert holds_credentials(address) is holds
