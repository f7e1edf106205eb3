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

import random
import shlex
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from orchestrator.errors import FencedError, OwnedError, SilencedError, UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.lease import describe_owner, identity
from orchestrator.store.tokens import Stage, Token, Tokens

__all__ = ["ObjectLease", "Rhythm", "read_object_note", "read_object_owner"]

_LOOKS = 2
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
            raise SilencedError(
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
            self._claim.put(Stage.RELEASED)
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
        self._tokens = Tokens(address)
        self._takeover = takeover
        before = self._tokens.all()
        self.previous = _last_owner(before)
        self.generation = max((each.generation for each in before), default=0) + 1
        self._key = Tokens.key(self.generation)
        own = identity() | {"generation": self.generation, "life": rhythm.life_seconds}
        self._content = note | own

    def put(self, stage: Stage) -> None:
        """Write the token: a sign of life."""
        self._tokens.write(self._key, self._content | {"stage": stage})

    def withdraw(self) -> None:
        """Remove the token, as well as it can be done."""
        with suppress(UnreachableError):
            self._tokens.remove(self._key)

    def contend(self) -> None:
        """Return when nobody else holds or has a better claim; else OwnedError."""
        first: dict[str, int] = {}
        looks = 0
        while looks < _LOOKS:
            alive = self._look(Stage.STARTING)
            looks += 1
            for other in alive:
                if other.stage == Stage.STARTING and other.key < self._key:
                    raise OwnedError(_owned(self.address, {}))
                if other.stage == Stage.HELD and self._respects(other):
                    if first.setdefault(other.key, other.modified) != other.modified:
                        raise OwnedError(_owned(self.address, other.content))
                    looks = 0  # alive or not long dead: its next sign of life will tell
            time.sleep(self.rhythm.settle_seconds)

    def hold(self) -> bool:
        """Become the owner; whether another one was alive and has been fenced off."""
        fenced = False
        while True:
            began = _clock()
            holders = [other for other in self._look(Stage.HELD) if other.stage == Stage.HELD]
            if any(self._respects(other) for other in holders):
                raise _SteppedBackError
            if not holders:
                break
            fenced = True
            time.sleep(self.rhythm.settle_seconds)
        for other in self._tokens.all():
            if other.generation < self.generation:
                self._tokens.remove(other.key)
        self.confirmed = began
        return fenced

    def beat(self) -> dict[str, Any] | None:
        """Give a sign of life; who has taken over, or None if nobody has."""
        began = _clock()
        self.put(Stage.HELD)
        for other in self._tokens.all(leave_out=self._key):
            if other.generation > self.generation and other.stage == Stage.HELD:
                return other.content
        self.confirmed = began
        return None

    def _respects(self, holder: Token) -> bool:
        return not self._takeover or holder.generation >= self.generation

    def _look(self, stage: Stage) -> list[Token]:
        """Write the token, then see who else is alive at that moment."""
        self.put(stage)
        alive = self._tokens.alive(self._key)
        if alive is None:
            raise _SteppedBackError
        return alive


def read_object_owner(address: BucketAddress) -> str | None:
    """Who owns what lies at an address, in words; None if nobody does."""
    tokens = Tokens(address)
    held = [each for each in tokens.all() if each.stage == Stage.HELD]
    if any(each.is_ours for each in held):
        return describe_owner(identity())
    try:
        holders = [each for each in tokens.alive_now() if each.stage == Stage.HELD] if held else []
    except UnreachableError:
        holders = held  # who may only read cannot ask what time it is there
    return describe_owner(holders[-1].content) if holders else None


def read_object_note(address: BucketAddress) -> dict[str, Any]:
    """What the last owner noted; raises OwnedError while there is one."""
    last = _last_owner(Tokens(address).all())
    if last and read_object_owner(address) is not None:
        raise OwnedError(_owned(address, last))
    return last


def _last_owner(tokens: list[Token]) -> dict[str, Any]:
    """What the newest token says that holds or held; empty if none does."""
    return next((each.content for each in reversed(tokens) if each.stage != Stage.STARTING), {})


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
