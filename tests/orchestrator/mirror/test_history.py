"""The fast way into a SQLite database leaves exactly what MLflow's own way leaves."""

from __future__ import annotations

import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.mirror import door
from orchestrator.mirror.door import MlflowExperiment, open_mlflow
from orchestrator.mirror.tracker import Point

POINTS = st.lists(
    st.builds(
        Point,
        st.sampled_from(["epoch", "loss", "val_accuracy"]),
        st.sampled_from([0.0, 0.25, 0.5, math.nan]),
        st.integers(1, 3),
        st.integers(1, 4),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def experiment(made_database: Path, tmp_path_factory: pytest.TempPathFactory) -> MlflowExperiment:
    database = tmp_path_factory.mktemp("history") / "mlflow.db"
    shutil.copy(made_database, database)
    return open_mlflow(f"sqlite:///{database}", "digits", database.parent)


def rows(experiment: MlflowExperiment, run_id: str) -> list[Any]:
    """What a run has in both tables."""
    columns = "key, value, timestamp, step, is_nan"
    assert experiment._database is not None
    with sqlite3.connect(experiment._database) as database:
        return [
            sorted(database.execute(f"select {columns} from {table} where run_uuid = ?", [run_id]))  # noqa: S608
            for table in ("metrics", "latest_metrics")
        ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(POINTS, max_size=3))
def test_both_ways_leave_the_same_rows(
    experiment: MlflowExperiment, batches: list[list[Point]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []
    for fast in (True, False):
        monkeypatch.setattr(door, "can_write", lambda fast=fast: fast)
        run_id = experiment.create("run", 1, {}).run_id
        for batch in batches:
            experiment.send(run_id, batch, {}, {})
        left.append(rows(experiment, run_id))

    assert left[0] == left[1]


def test_mlflow_reads_what_was_written(experiment: MlflowExperiment) -> None:
    run_id = experiment.create("run", 1, {}).run_id

    experiment.send(run_id, [Point("loss", 0.5, 7, 1), Point("loss", 0.25, 8, 2)], {}, {})

    history = experiment._client.get_metric_history(run_id, "loss")
    assert [(each.value, each.timestamp, each.step) for each in history] == [(0.5, 7, 1), (0.25, 8, 2)]
    assert experiment._client.get_run(run_id).data.metrics == {"loss": 0.25}


def test_mlflows_tables_have_the_columns_that_are_known_here() -> None:
    from orchestrator.mirror.history import can_write

    assert can_write()
