"""Addresses that hold credentials, which may be written nowhere, or carry them for all to read."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

from cpsc_core.redaction import SECRET_NAME

__all__ = ["find_exposure", "holds_credentials", "is_in_the_clear"]

_CREDENTIALS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_ALLOWED = "CPSC_PLAIN_HTTP"


def holds_credentials(address: str) -> bool:
    """Whether an address has a password in it, or, at a web server, a user name that may be a token.

    The password may also be a parameter, as database drivers take it.
    """
    parts = _split(address)
    return (
        parts.password is not None
        or (parts.scheme in ("http", "https") and "@" in parts.netloc)
        or any(SECRET_NAME.search(name) for name, _ in parse_qsl(parts.query))
    )


def is_in_the_clear(address: str) -> bool:
    """Whether all on the way to a server can read what is sent there: plain http beyond this machine."""
    parts = _split(address)
    if parts.scheme != "http" or parts.hostname is None:
        return False
    try:
        return not ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def find_exposure(address: str, environment: Mapping[str, str]) -> str | None:
    """Why MLflow's credentials may not be sent to an address, and what to do; None if they may.

    `CPSC_PLAIN_HTTP=allow` in the environment says that the network in between is one's own.
    """
    given = next((name for name in _CREDENTIALS if environment.get(name)), None)
    if given is None or not is_in_the_clear(address) or environment.get(_ALLOWED) == "allow":
        return None
    return (
        f"would send {given} over plain http for everybody on the way to read; use https, or a tunnel to "
        f"127.0.0.1, or set {_ALLOWED}=allow if that network is yours alone"
    )


def _split(address: str) -> SplitResult:
    """The parts of an address; one that is none has no host, and is refused elsewhere."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", address, "", "")
