"""Where a Ray cluster is, and whether its head still answers there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from orchestrator.errors import UnreachableError, UsageError

__all__ = ["Head", "find_address", "knock", "unreachable"]

_KNOCK_SECONDS = 5.0
_HINT = "check the address, and that RAY_AUTH_TOKEN_PATH names the file with the cluster's token"


def find_address(wish: str) -> str:
    """HOST:PORT of a cluster's head, from itself or from `auto`: $RAY_ADDRESS, or who runs on this machine.

    Raises UsageError if it is neither, UnreachableError if nobody runs here.
    """
    if wish != "auto":
        if not wish.removeprefix("ray://").rpartition(":")[2].isdigit():
            raise UsageError(f"--address must be auto or HOST:PORT of a Ray head, but is {wish!r}")
        return wish
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, ValueError) as error:
        raise UnreachableError(
            "no Ray cluster runs on this machine, and RAY_ADDRESS names none; start its part of one with "
            "`ray start --address HOST:PORT`, or give --address HOST:PORT"
        ) from error


def knock(address: str) -> None:
    """Raise UnreachableError unless something answers at an address: Ray itself would try for ten minutes."""
    try:
        _connect(address, _KNOCK_SECONDS)
    except OSError as error:
        raise unreachable(address, error) from error


def unreachable(address: str, error: Exception) -> UnreachableError:
    """An error that says why nobody answers at an address, and what to look at."""
    lines = (line.strip() for line in str(error).splitlines())
    reason = next((line for line in lines if line), type(error).__name__)
    return UnreachableError(f"no Ray cluster answers at {address}: {reason}; {_HINT}")


class Head:
    """Whether a cluster's head has been silent for too long; any thread may ask.

    Ray itself waits a minute for it and then ends the process without a word that helps.
    """

    def __init__(
        self,
        address: str,
        *,
        patience_seconds: float = 40.0,
        every_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._patience = patience_seconds
        self._every = every_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._heard = self._asked = clock()

    def lost(self) -> frozenset[str]:
        """The head's name if it has not answered for as long as it is given; asks it every few seconds."""
        now = self._clock()
        with self._lock:
            is_due = now - self._asked >= self._every
            if is_due:
                self._asked = now
        if is_due:
            self._ask()
        is_lost = self._clock() - self._heard > self._patience
        return frozenset({f"head at {self._address}"} if is_lost else ())

    def _ask(self) -> None:
        try:
            _connect(self._address, 1.0)
        except OSError:
            return
        self._heard = self._clock()


def _connect(address: str, seconds: float) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
