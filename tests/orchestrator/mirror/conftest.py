"""What all tests of the mirror share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes die in these tests, machines do not: nothing has to reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)


@pytest.fixture(autouse=True)
def _up_to_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep's own run carries is made anew at every synchronisation."""
    monkeypatch.setattr("orchestrator.mirror.sync._SECONDS_BETWEEN_OVERVIEWS", 0.0)


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as the first sweep of a storage folder makes it; that takes seconds, a copy does not."""
    from orchestrator.mirror.door import open_mlflow

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_mlflow(f"sqlite:///{database}", "first", database.parent / "images").close()
    return database


@pytest.fixture
def make_database(made_database: Path) -> Callable[[Path], str]:
    """Lay a database at a path; returns its URI."""

    def copy(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made_database, path)
        return f"sqlite:///{path}"

    return copy
