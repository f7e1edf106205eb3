"""What MLflow can be reached at."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["why_no_tracking_uri"]

_SERVERS = ("http", "https")
_HOSTED = "databricks"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def why_no_tracking_uri(uri: str) -> str | None:
    """What MLflow's address must look like, if a text can't be one; None if it may be one."""
    try:
        parts = urlsplit(uri)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return _ALLOWED
    kind = parts.scheme.partition("+")[0] or uri
    if kind.startswith(_HOSTED) or (kind in _SERVERS and is_whole) or (kind in _DATABASES and "://" in uri):
        return None
    return _ALLOWED


_ALLOWED = (
    "must be http://HOST or https://HOST of a server, or sqlite:///FILE, postgresql://... of a database"
)
