"""Addresses that hold credentials, which may be written nowhere."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["holds_credentials"]


def holds_credentials(address: str) -> bool:
    """Whether an address has a password in it, or, at a web server, a user name that may be a token."""
    parts = urlsplit(address)
    return parts.password is not None or (parts.scheme in ("http", "https") and "@" in parts.netloc)
