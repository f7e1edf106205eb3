"""One owner per folder of a bucket, which knows no lock: an object per token, and the store's own clock.

    lease/0000000003-9f2c51d08a77b6e1.json    who it is, whether it is starting, holds or has released

The owner rewrites its object every few seconds. A token is alive while the store has seen it written not long
ago: ages are differences between times that the store noted itself, the newest of them that of an object
just written. Whoever starts writes a token of the next generation, looks, waits and looks again; the smallest
living token goes on to hold. Then it looks once more: of two that write first and look afterwards, one at
least sees the other, and steps back. Whoever takes over waits until the owner before has seen it and removed
its token, or has been silent for so long that it counts itself out: no two ever hold at once.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import FencedError, OwnedError, UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.lease import describe_owner, identity

__all__ = ["ObjectLease", "Rhythm", "read_object_note", "read_object_owner"]

_KEY = re.compile(r"^(\d{10})-[0-9a-f]{16}\.json$")
_STARTING, _HELD, _RELEASED = "starting", "held", "released"
_ROUNDING_SECONDS = 2.0
"""Many stores note whole seconds; and clocks do not run equally fast."""
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often an owner is heard, and how long nobody minds if it is not."""

    beat_seconds: float = 5.0
    """Between two signs of life."""
    life_seconds: float = 30.0
    """Silence after which it counts itself out; others, who read it in its token, wait two seconds more."""
    settle_seconds: float = 1.0
    """Between two looks of somebody who starts."""


@dataclass(frozen=True, slots=True)
class _Token:
    """Somebody else's token that is alive, or may be."""

    key: str
    modified: int
    content: dict[str, Any]

    @property
    def generation(self) -> int:
        return _generation(self.key)

    @property
    def stage(self) -> str:
        return str(self.content.get("stage"))


class _SteppedBackError(Exception):
    """Two came to hold at the same moment; nobody does, and both try again."""


@dataclass(slots=True, eq=False)
class ObjectLease:
    """The right to write below one address of a bucket; a context manager that gives it back."""

    generation: int
    """One more than the previous owner's; every record carries it."""
    previous: dict[str, Any]
    """What the previous owner had noted; empty if there was none."""
    _claim: _Claim
    fences: bool = False
    """Whether that owner was still alive, and was fenced off."""
    _lost: str | None = None
    _leaving: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def acquire(
        cls,
        address: BucketAddress,
        *,
        note: Mapping[str, Any] | None = None,
        takeover: bool = False,
        rhythm: Rhythm | None = None,
    ) -> Self:
        """Own what lies at an address, whose tokens lie in its folder `lease`.

        Takes some seconds: an owner that died elsewhere is only known to be dead when it has been silent for
        long enough. With `takeover` a living owner is fenced off instead of respected. Raises OwnedError,
        naming the owner, if somebody else owns it.
        """
        for attempt in range(_TRIES):
            try:
                return cls._try(address, dict(note or {}), takeover, rhythm or Rhythm())
            except _SteppedBackError:
                time.sleep(random.uniform(0.5, 2.0) * (attempt + 1))  # noqa: S311 - only to part two of us
        raise OwnedError(_owned(address, {}))

    @classmethod
    def _try(cls, address: BucketAddress, note: dict[str, Any], takeover: bool, rhythm: Rhythm) -> Self:
        claim = _Claim(address, note, takeover, rhythm)
        lease = cls(claim.generation, claim.previous, claim)
        try:
            claim.contend()
            lease.fences = claim.hold()
        except BaseException:
            claim.withdraw()
            raise
        lease._thread = threading.Thread(target=lease._beat, name="lease", daemon=True)
        lease._thread.start()
        return lease

    def check(self) -> None:
        """Raise FencedError if somebody else has taken over, or may have without our knowing."""
        address, life = self._claim.address, self._claim.rhythm.life_seconds
        if self._lost is not None:
            raise FencedError(
                f"this controller has lost {address.name} to {self._lost}; it writes nothing more, the other "
                "one goes on"
            )
        if _clock() - self._claim.confirmed > life:
            raise FencedError(
                f"this controller has not reached {address} for {life:g} s and may have lost it; it writes "
                f"nothing more: go on with `cpsc-orchestrate resume {shlex.quote(str(address))}`"
            )

    def release(self) -> None:
        """Give it back; the token stays, so that the generation goes on growing."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.check()
            self._claim.put(_RELEASED)
        except (FencedError, UnreachableError):
            return  # it is another's, or silence will tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _beat(self) -> None:
        claim, rhythm = self._claim, self._claim.rhythm
        pause = rhythm.beat_seconds
        while not self._leaving.wait(pause) and _clock() - claim.confirmed <= rhythm.life_seconds:
            try:
                later = claim.beat()
            except UnreachableError:
                pause = min(1.0, rhythm.beat_seconds)
                continue
            pause = rhythm.beat_seconds
            if later is not None:
                self._lost = describe_owner(later)
                claim.withdraw()
                return


class _Claim:
    """One token, from its first writing to its last."""

    def __init__(self, address: BucketAddress, note: dict[str, Any], takeover: bool, rhythm: Rhythm) -> None:
        self.address = address
        self.rhythm = rhythm
        self.confirmed = 0.0
        """When, by our own clock, the last sign of life was begun that is known to have arrived."""
        self._bucket = Bucket(address / "lease", pauses=(0.2, 0.5))
        self._takeover = takeover
        newest = _newest(self._bucket)
        self.previous = newest[1] if newest else {}
        self.generation = (newest[0] if newest else 0) + 1
        self._key = f"{self.generation:010d}-{secrets.token_hex(8)}.json"
        self._content = note | identity() | {"generation": self.generation, "life": rhythm.life_seconds}

    def put(self, stage: str) -> None:
        """Write the token: a sign of life."""
        content = self._content | {"stage": stage}
        self._bucket.write(self._key, json.dumps(content, indent=1).encode())

    def withdraw(self) -> None:
        """Remove the token, as well as it can be done."""
        try:
            self._bucket.delete(self._key)
        except UnreachableError:
            return

    def contend(self) -> None:
        """Return when nobody else holds or has a better claim; else OwnedError."""
        first: dict[str, int] = {}
        looks = 0
        while looks < 2:
            alive = self._look(_STARTING)
            looks += 1
            for other in alive:
                if other.stage == _STARTING and other.key < self._key:
                    raise OwnedError(_owned(self.address, {}))
                if other.stage == _HELD and (not self._takeover or other.generation >= self.generation):
                    if first.setdefault(other.key, other.modified) != other.modified:
                        raise OwnedError(_owned(self.address, other.content))
                    looks = 0  # alive or not long dead: its next sign of life will tell
            time.sleep(self.rhythm.settle_seconds)

    def hold(self) -> bool:
        """Become the owner; whether another one was alive and has been fenced off."""
        fenced = False
        while True:
            began = _clock()
            holders = [other for other in self._look(_HELD) if other.stage == _HELD]
            if any(not self._takeover or other.generation >= self.generation for other in holders):
                raise _SteppedBackError
            if not holders:
                break
            fenced = True
            time.sleep(self.rhythm.settle_seconds)
        for key in self._bucket.objects():
            if _KEY.match(key) and _generation(key) < self.generation:
                self._bucket.delete(key)
        self.confirmed = began
        return fenced

    def beat(self) -> dict[str, Any] | None:
        """Give a sign of life; who has taken over, or None if nobody has."""
        began = _clock()
        self.put(_HELD)
        for key in self._bucket.objects():
            if _KEY.match(key) and _generation(key) > self.generation:
                content = _read(self._bucket, key)
                if content is not None and content.get("stage") == _HELD:
                    return content
        self.confirmed = began
        return None

    def _look(self, stage: str) -> list[_Token]:
        """Write the token, then see who else is alive at that moment."""
        self.put(stage)
        return _alive(self._bucket, self._key)


def read_object_owner(address: BucketAddress) -> str | None:
    """Who owns what lies at an address, in words; None if nobody does.

    Where somebody may, an object is written and removed again, to learn what time it is there.
    """
    bucket = Bucket(address / "lease")
    tokens = [_read(bucket, key) or {} for key in bucket.objects() if _KEY.match(key)]
    held = [each for each in tokens if each.get("stage") == _HELD]
    if not held:
        return None
    if any(_is_ours(each) for each in held):
        return describe_owner(identity())
    clock = f"clock-{secrets.token_hex(8)}"
    bucket.write(clock, b"")
    try:
        holders = [each for each in _alive(bucket, clock) if each.stage == _HELD]
    finally:
        bucket.delete(clock)
    return describe_owner(max(holders, key=lambda each: each.key).content) if holders else None


def read_object_note(address: BucketAddress) -> dict[str, Any]:
    """What the last owner noted; raises OwnedError while there is one."""
    newest = _newest(Bucket(address / "lease"))
    if newest is not None and read_object_owner(address) is not None:
        raise OwnedError(_owned(address, newest[1]))
    return newest[1] if newest else {}


def _alive(bucket: Bucket, own: str) -> list[_Token]:
    """The other tokens that are alive at the moment at which one's own object was written."""
    stored = bucket.objects()
    if own not in stored:
        raise _SteppedBackError
    now = stored[own].modified
    found = []
    for key, each in stored.items():
        content = _read(bucket, key) if key != own and _KEY.match(key) else None
        if content is None or content.get("stage") == _RELEASED or _is_gone(content):
            continue
        if now - each.modified <= (float(content.get("life", 0.0)) + _ROUNDING_SECONDS) * 1e9:
            found.append(_Token(key, each.modified, content))
    return found


def _newest(bucket: Bucket) -> tuple[int, dict[str, Any]] | None:
    """Generation and content of the newest token that holds or held, or of any if none did."""
    found = [
        (content.get("stage") != _STARTING, _generation(key), content)
        for key in bucket.objects()
        if _KEY.match(key) and (content := _read(bucket, key)) is not None
    ]
    if not found:
        return None
    _, _, content = max(found, key=lambda each: each[:2])
    return max(generation for _, generation, _ in found), content


def _read(bucket: Bucket, key: str) -> dict[str, Any] | None:
    """The content of a token; None if it has gone. One that was rewritten as it was read is read again."""
    for _ in range(_TRIES):
        raw = bucket.read(key)
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


def _is_ours(content: Mapping[str, Any]) -> bool:
    return _is_of_this_machine(content) and content.get("pid") == os.getpid()


def _is_of_this_machine(content: Mapping[str, Any]) -> bool:
    """Whether a process number in a token means the same here."""
    ours = identity()
    return all(ours[name] and content.get(name) == ours[name] for name in ("host", "boot", "namespace"))


def _generation(key: str) -> int:
    return int(key.partition("-")[0])


def _clock() -> float:
    """Seconds that pass also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _owned(address: BucketAddress, content: Mapping[str, Any]) -> str:
    sweep = shlex.quote(str(address))
    return (
        f"sweep {address.name} is owned by {describe_owner(content)}; watch it with "
        f"`cpsc-orchestrate status {sweep}`, stop it with `cpsc-orchestrate stop {sweep}`, or, if that "
        f"process is beyond reach, run `cpsc-orchestrate resume {sweep} --takeover`"
    )
