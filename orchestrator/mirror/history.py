"""Histories into a SQLite database of MLflow's at the speed of the disk; another part of the door to MLflow.

MLflow makes an object of every point and compares each with the newest of its metric, which takes most of the
time that mirroring a sweep takes. Here the same rows are written by two statements, in one transaction. What
else belongs to a run is left to MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.mirror.tracker import Point

__all__ = ["can_write", "write_history"]

_COLUMNS = frozenset({"key", "value", "timestamp", "step", "is_nan", "run_uuid"})
_NEWEST_FIRST = ("step", "timestamp", "value")


def can_write() -> bool:
    """Whether MLflow keeps metrics in the columns that are known here; a later version may not."""
    return all({column.name for column in table.columns} == _COLUMNS for table in _tables())


def write_history(engine: Any, run_id: str, points: Sequence[Point]) -> None:
    """Add points to a run, all of them or none; one that is there already is not doubled.

    Raises MLflow's own exception for a run that does not exist or is in the bin.
    """
    from sqlalchemy import tuple_
    from sqlalchemy.dialects.sqlite import insert

    metrics, latest = _tables()
    rows = [_row(run_id, point) for point in points]
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        before = newest.get(row["key"])
        if before is None or _age(row) > _age(before):
            newest[row["key"]] = row
    put = insert(latest)
    values = {name: put.excluded[name] for name in (*_NEWEST_FIRST, "is_nan")}
    is_newer = tuple_(*(put.excluded[name] for name in _NEWEST_FIRST)) > tuple_(
        *(latest.c[name] for name in _NEWEST_FIRST)
    )
    put = put.on_conflict_do_update(index_elements=["key", "run_uuid"], set_=values, where=is_newer)
    with engine.begin() as connection:
        _refuse_if_gone(connection, run_id)
        connection.execute(insert(metrics).on_conflict_do_nothing(), rows)
        connection.execute(put, list(newest.values()))


def _refuse_if_gone(connection: Any, run_id: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from sqlalchemy import select

    stage: Any = select(SqlRun.lifecycle_stage).where(SqlRun.run_uuid == run_id)
    if connection.execute(stage).scalar() != "active":
        raise MlflowException(f"Run {run_id} not found, or not active", RESOURCE_DOES_NOT_EXIST)


def _tables() -> tuple[Any, Any]:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric

    return SqlMetric.__table__, SqlLatestMetric.__table__


def _row(run_id: str, point: Point) -> dict[str, Any]:
    """A point as MLflow stores it: what is not a number as 0 with a flag."""
    is_nan = math.isnan(point.value)
    return {
        "key": point.key,
        "value": 0.0 if is_nan else point.value,
        "timestamp": point.timestamp,
        "step": point.step,
        "is_nan": is_nan,
        "run_uuid": run_id,
    }


def _age(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _NEWEST_FIRST)
