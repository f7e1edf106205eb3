"""The request to stop, as the machines that run trials look for it."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress, is_remote
from orchestrator.store.bucket import Bucket

__all__ = ["StopSign"]

_GLANCE_SECONDS = 2.0


class StopSign:
    """A file or an object whose existence asks a sweep to stop."""

    def __init__(self, place: str) -> None:
        """The sign at a path or an address."""
        self._place = place
        self._bucket: Bucket | None = None
        self._name = ""
        if is_remote(place):
            address = BucketAddress.parse(place)
            self._name, self._bucket = address.name, Bucket(address.parent, pauses=())
        self._looked = float("-inf")
        self._is_up = False

    def is_up(self) -> bool:
        """Whether it is there; a store is asked every two seconds, and one that is silent says nothing."""
        if self._bucket is None:
            return Path(self._place).exists()
        if not self._is_up and (now := time.monotonic()) - self._looked > _GLANCE_SECONDS:
            self._looked = now
            try:
                self._is_up = self._bucket.has(self._name)
            except UnreachableError:
                return False
        return self._is_up
