"""Tracking URIs: the default one, what may not be in one, and what is noted of one in mirror.json."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.credentials import holds_credentials
from orchestrator.errors import ConfigError
from orchestrator.store.paths import StoragePaths
from orchestrator.tracking import why_no_tracking_uri

__all__ = ["artifacts_beside", "check_uri", "database_path", "default_uri", "is_server", "public_uri"]

_SQLITE = "sqlite:///"


def default_uri(storage: StoragePaths) -> str:
    """The SQLite database of a storage folder."""
    return f"{_SQLITE}{storage.mlflow_database}"


def check_uri(uri: str) -> str:
    """The URI itself; raises ConfigError if it is none, or carries credentials.

    A URI is written to mirror.json, to manifests and to logs, where a password must not lie.
    """
    if reason := why_no_tracking_uri(uri):
        raise ConfigError(f"MLflow's address {reason}; it is {public_uri(uri)!r}")
    if holds_credentials(uri):
        raise ConfigError(
            f"tracking.uri for {urlsplit(uri).hostname} carries credentials; leave them out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment instead"
        )
    return uri


def public_uri(uri: str) -> str:
    """The URI without its query, which may hold an access key of a database driver."""
    return uri.partition("?")[0]


def is_server(uri: str) -> bool:
    """Whether the URI names a server that people open in a browser."""
    return urlsplit(uri).scheme in ("http", "https")


def database_path(uri: str) -> Path | None:
    """The file of a SQLite URI; None for every other URI, and for a database in memory."""
    place = public_uri(uri).removeprefix(_SQLITE)
    if place == public_uri(uri) or place in ("", ":memory:"):
        return None
    return Path(place)


def artifacts_beside(uri: str) -> Path | None:
    """The folder beside a SQLite database for what its runs carry; None for every other URI.

    MLflow itself would put it into whatever folder the command was started in.
    """
    database = database_path(uri)
    return None if database is None else StoragePaths(database.absolute().parent).mlflow_artifacts
