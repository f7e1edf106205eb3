"""Who of a gang is alive, and who makes progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from cpsc_core.memory import MemoryUse
from orchestrator.trial.failure import HangError
from orchestrator.trial.news import Pulse

__all__ = ["Watch"]


@dataclass(slots=True)
class _Rank:
    handle: Any
    asked: ray.ObjectRef[Pulse] | None = None
    pulse: Pulse | None = None
    heard: float = 0.0


class Watch:
    """Asks the ranks for their pulse without ever waiting for one that does not answer."""

    def __init__(
        self, ranks: Sequence[Any], start_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`start_seconds` is what a rank may take to load torch, data and networks."""
        self._clock = clock
        self._start_seconds = start_seconds
        self._ranks = [_Rank(handle) for handle in ranks]
        self._updated: float | None = None
        self.start_anew()

    def start_anew(self) -> None:
        """A trial begins: nobody has been silent yet."""
        self._updated = None
        for rank in self._ranks:
            rank.asked, rank.pulse, rank.heard = None, None, self._clock()

    def note_update(self) -> None:
        """An update is known to be finished just now, whatever the pulses said last: they may be older."""
        self._updated = self._clock()

    @property
    def terminated(self) -> list[int]:
        """Ranks that were sent SIGTERM."""
        return [index for index, rank in enumerate(self._ranks) if rank.pulse and rank.pulse.terminated]

    def memory(self, index: int) -> MemoryUse | None:
        """What a rank needed of memory when it was heard last."""
        pulse = self._ranks[index].pulse
        return pulse.memory if pulse else None

    def look(self) -> None:
        """Hear who has answered, and ask again; raises Ray's error if a rank is gone."""
        now = self._clock()
        for rank in self._ranks:
            if rank.asked is not None and ray.wait([rank.asked], timeout=0)[0]:
                rank.pulse, rank.heard, rank.asked = ray.get(rank.asked), now, None
            if rank.asked is None:
                rank.asked = rank.handle.pulse.remote()

    def refuse_silence(self, limit: float) -> None:
        """Raise HangError if no rank made progress for `limit` seconds, or one did not even answer.

        One that hangs silences all, which wait for it; the first may be scoring while the others wait.
        Before the first update they may take the time of a start.
        """
        if self._updated is None and not any(rank.pulse and rank.pulse.has_begun for rank in self._ranks):
            limit = max(limit, self._start_seconds)
        now = self._clock()
        unheard = [now - rank.heard for rank in self._ranks]
        if (longest := max(unheard)) > limit:
            index = unheard.index(longest)
            which = f"rank {index} of {len(unheard)}"
            raise HangError(f"{which} did not answer for {longest:.0f} s (hang.seconds is {limit:g})")
        pulses = zip(self._ranks, unheard, strict=True)
        silence = min((rank.pulse.silence if rank.pulse else 0.0) + since for rank, since in pulses)
        if self._updated is not None:
            silence = min(silence, now - self._updated)
        if silence > limit:
            raise HangError(f"no update was finished for {silence:.0f} s (hang.seconds is {limit:g})")
