"""The command line of the MLflow server that shows a storage folder."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing

from orchestrator.errors import UsageError
from orchestrator.mirror.uri import check_uri, default_uri, is_server
from orchestrator.store.paths import StoragePaths

__all__ = ["sweep_pages", "ui_command"]

_UNUSED = "Default"
"""The experiment that MLflow makes for itself."""
_SAFE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "false",
}


def ui_command(
    storage: StoragePaths, uri: str | None, host: str = "127.0.0.1", port: int = 5000
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a server that shows the runs at `uri`; None: the default database.

    It runs no jobs, loads no pickles and reports to nobody. It asks for no password, so a `host` other than
    the loopback address lets everybody in who can reach it. Raises UsageError if `uri` is a server already.
    """
    uri = check_uri(uri or default_uri(storage))
    if is_server(uri):
        raise UsageError(f"the runs are on a server already: open {uri} in a browser")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    stores = ["--backend-store-uri", uri, "--default-artifact-root", storage.mlflow_artifacts.as_uri()]
    return [*command, *stores, "--no-serve-artifacts"], os.environ | _SAFE


def sweep_pages(storage: StoragePaths, server: str) -> dict[str, str]:
    """Where a server that shows the default database has the runs of each sweep, by name.

    MLflow's own list leads to its pages for language models first. Empty if the database cannot be read.
    """
    query = "select name, experiment_id from experiments where lifecycle_stage = 'active' order by name"
    try:
        with closing(sqlite3.connect(f"file:{storage.mlflow_database}?mode=ro", uri=True)) as database:
            rows = database.execute(query).fetchall()
    except sqlite3.Error:
        return {}
    return {name: f"{server}/#/experiments/{number}/runs" for name, number in rows if name != _UNUSED}
