"""Who may speak to Ray: whoever has the cluster's token. Its ports are open to the whole network."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError

__all__ = ["present_token", "token_file", "token_for"]

_MODE, _TOKEN, _PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_EVERYBODY = "disabled"


@contextmanager
def token_for(address: str | None, folder: Path) -> Iterator[None]:
    """Have Ray ask for a token while the block runs: one of its own, or that of the cluster at HOST:PORT.

    The token of a private Ray, whose address is None, lies in `folder` and goes with it; the folder must be
    nobody else's. Raises UsageError where the environment wants Ray open to everybody, and where a cluster
    beyond this machine is to be joined without a token.
    """
    if os.environ.get(_MODE, "").lower() == _EVERYBODY:
        raise UsageError(
            f"{_MODE}={_EVERYBODY} opens Ray's ports, and with them this account, to everybody who reaches "
            "this machine; unset it"
        )
    before = {name: os.environ.get(name) for name in (_MODE, _TOKEN, _PATH)}
    try:
        if address is None:
            os.environ[_PATH] = str(_write_token(folder))
            os.environ.pop(_TOKEN, None)  # Ray would rather take it
            os.environ[_MODE] = "token"
        elif _has_token(os.environ):
            os.environ[_MODE] = "token"  # with an address Ray would not even show it
        elif not _is_here(address):
            raise UsageError(
                f"a Ray cluster beyond this machine is joined with its token only, and there is none for "
                f"{address}; copy the head's ~/.ray/auth_token to a file that nobody else may read and name "
                f"it in {_PATH}"
            )
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def present_token() -> None:
    """Have this process's Ray take up the token of `token_for`: it reads its environment but once."""
    from ray import _raylet

    raylet: Any = _raylet
    asks = raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN
    if os.environ.get(_MODE) == "token" and not asks:
        raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def token_file(environment: Mapping[str, str]) -> Path:
    """The file that Ray reads a token from where RAY_AUTH_TOKEN holds none."""
    return Path(environment.get(_PATH) or "~/.ray/auth_token").expanduser()


def _has_token(environment: Mapping[str, str]) -> bool:
    return bool(environment.get(_TOKEN)) or token_file(environment).is_file()


def _write_token(folder: Path) -> Path:
    """A token of its own: Ray's default is one for all, in a file that others may read."""
    path = folder / "token"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode())
    finally:
        os.close(handle)
    return path


def _is_here(address: str) -> bool:
    """Whether an address is one of this machine's own."""
    host = address.removeprefix("ray://").rpartition(":")[0].strip("[]")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True
