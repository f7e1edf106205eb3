"""The tokens of those who own a folder of a bucket or want to, judged by the store's own clock."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.lease import identity

__all__ = ["Stage", "Token", "Tokens"]

_KEY = re.compile(r"^(\d{10})-[0-9a-f]{16}\.json$")
_ROUNDING_SECONDS = 2.0
"""Many stores note whole seconds; and clocks do not run equally fast."""
_TRIES = 5


class Stage(StrEnum):
    """How far the owner of a token is."""

    STARTING = "starting"
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token as it was met."""

    key: str
    """Its name: the generation, then something that nobody else has."""
    modified: int
    """When it was written, by the store's clock, nanoseconds."""
    content: dict[str, Any]
    """What its owner says of itself."""

    @property
    def generation(self) -> int:
        """The generation it is for."""
        return int(self.key.partition("-")[0])

    @property
    def stage(self) -> str:
        """How far its owner is."""
        return str(self.content.get("stage"))

    @property
    def is_ours(self) -> bool:
        """Whether it is that of this very process."""
        return _is_of_this_machine(self.content) and self.content.get("pid") == os.getpid()

    def is_alive(self, now: int) -> bool:
        """Whether its owner may still be at it at a moment of the store's clock."""
        life = float(self.content.get("life", 0.0)) + _ROUNDING_SECONDS
        is_recent = now - self.modified <= life * 1e9
        return self.stage != Stage.RELEASED and is_recent and not _is_gone(self.content)


class Tokens:
    """The folder `lease` of an address."""

    def __init__(self, address: BucketAddress) -> None:
        """The tokens of what lies at an address; nothing is asked of the bucket yet."""
        self._bucket = Bucket(address / "lease", pauses=(0.2, 0.5))

    @staticmethod
    def key(generation: int) -> str:
        """The name of a new token for a generation."""
        return f"{generation:010d}-{secrets.token_hex(8)}.json"

    def write(self, key: str, content: Mapping[str, Any]) -> None:
        """Write a token: a sign of life."""
        self._bucket.write(key, json.dumps(content, indent=1).encode())

    def remove(self, key: str) -> None:
        """Remove a token, if it is there."""
        self._bucket.delete(key)

    def all(self, leave_out: str = "") -> list[Token]:
        """Every token but one, the smallest first."""
        return self._look(leave_out)[0]

    def alive(self, own: str) -> list[Token] | None:
        """The other tokens that are alive at the moment at which the token `own` was written.

        None if somebody has removed that one.
        """
        tokens, moments = self._look(own)
        now = moments.get(own)
        return None if now is None else [each for each in tokens if each.is_alive(now)]

    def alive_now(self) -> list[Token]:
        """The tokens that are alive: an object is written and removed again, to learn what time it is."""
        clock = f"clock-{secrets.token_hex(8)}"
        self._bucket.write(clock, b"")
        try:
            return self.alive(clock) or []
        finally:
            self._bucket.delete(clock)

    def _look(self, leave_out: str) -> tuple[list[Token], dict[str, int]]:
        """All tokens but one, and when each object was written."""
        stored = self._bucket.objects()
        tokens = []
        for key in sorted(stored):
            content = self._read(key) if _KEY.match(key) and key != leave_out else None
            if content is not None:
                tokens.append(Token(key=key, modified=stored[key].modified, content=content))
        return tokens, {key: each.modified for key, each in stored.items()}

    def _read(self, key: str) -> dict[str, Any] | None:
        """The content of a token; None if it has gone. One that was rewritten meanwhile is read again."""
        for _ in range(_TRIES):
            raw = self._bucket.read(key)
            if raw is None:
                return None
            try:
                content = json.loads(raw)
            except ValueError:
                continue
            return content if isinstance(content, dict) else {}
        return {}


def _is_gone(content: Mapping[str, Any]) -> bool:
    """Whether a token is that of a process of this very machine that lives no more."""
    pid = content.get("pid")
    return _is_of_this_machine(content) and isinstance(pid, int) and not Path(f"/proc/{pid}").exists()


def _is_of_this_machine(content: Mapping[str, Any]) -> bool:
    """Whether a process number in a token means the same here."""
    ours = identity()
    return all(ours[name] and content.get(name) == ours[name] for name in ("host", "boot", "namespace"))
