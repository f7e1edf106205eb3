"""SQLite databases of MLflow's: made whole or not at all, and open to readers while they are written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from cpsc_core.attempt import replacing
from orchestrator.mirror.ledger import locked
from orchestrator.store.drafts import remove_stale_drafts_of

__all__ = ["prepare_database"]


def prepare_database(uri: str, database: Path, artifacts: Path | None) -> Any:
    """SQLAlchemy's engine of a SQLite database, which is made if need be, whole or not at all.

    MLflow would make it too, but spoil it if it were killed or two processes did so at once.
    """
    from sqlalchemy import event

    database.parent.mkdir(parents=True, exist_ok=True)
    root = str(artifacts or database.parent)
    with locked(database):
        remove_stale_drafts_of(database)
        if not database.exists():
            # The log of a database that was deleted would be played into the new one.
            for rest in ("-wal", "-shm"):
                database.with_name(database.name + rest).unlink(missing_ok=True)
            with replacing(database) as draft:
                # With a write-ahead log this takes a third of the time, and later readers block nobody.
                sqlite3.connect(draft).execute("PRAGMA journal_mode=WAL").connection.close()
                _store(f"sqlite:///{draft}", root).engine.dispose()
    engine = _store(uri, root).engine
    if not event.contains(engine, "connect", _relax):
        event.listen(engine, "connect", _relax)
    # Connections that are open already may be to a file that was deleted in the meantime.
    engine.dispose()
    return engine


def _store(uri: str, artifacts: str) -> Any:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri, artifacts)  # type: ignore[no-untyped-call]


def _relax(connection: sqlite3.Connection, _record: object) -> None:
    """With a write-ahead log, let commits reach the disk when the system likes: the folders are the truth."""
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous=NORMAL")
