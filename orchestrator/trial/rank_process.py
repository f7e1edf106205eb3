"""One training process of a gang: an actor that outlives the trial, so that torch is imported once."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from traceback import clear_frames
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
from ray.util import get_node_ip_address

from cpsc_core.attempt import AttemptPaths
from cpsc_core.memory import MemoryWatch, give_back_memory, processes_killed_for_memory
from cpsc_core.settings import TrialSettings
from orchestrator.cluster.shape import Shape
from orchestrator.store.address import BucketAddress, is_remote
from orchestrator.store.courier import Courier
from orchestrator.store.records import EndClass
from orchestrator.trial.alarm import StackAlarm
from orchestrator.trial.assignment import Assignment
from orchestrator.trial.failure import classify, describe, trace
from orchestrator.trial.interface import choose_interface
from orchestrator.trial.news import Berth, News, Pulse
from orchestrator.trial.shipping import unpack_teacher

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from cpsc_core.rank import Rank

__all__ = ["RankProcess", "rest_while_waiting"]

_EXCHANGE_TIMEOUT_SECONDS = 3600.0
"""Longer than any hang.seconds that makes sense: the driver watches the ranks, and ends the gang itself."""

_SECONDS_TO_SEND = 2.0
"""For the stack of a rank that hangs to reach a bucket before the rank is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What a rank is at."""

    assignment: Assignment
    memory: MemoryWatch
    lines: Iterator[dict[str, Any]]
    courier: Courier | None

    def explain(self, error: Exception) -> News:
        """The end of the attempt by an error."""
        if self.courier is not None:
            self.courier.send_log()
        ended, cause = classify(error), describe(error)
        if ended is EndClass.OUT_OF_MEMORY:
            clear_frames(error.__traceback__)  # they still hold what there is too little of
            gc.collect()
            batch_size = self.assignment.settings["train"]["batch_size"]
            needs = self.memory.use(error).explain(batch_size, self.assignment.shape.workers)
            cause = f"{'GPU memory' if self.assignment.shape.gpus else 'memory'} ran out: {needs}"
        return News(ended=ended, cause=cause, trace=trace(error))


class RankProcess:
    """Runs one attempt after another, an epoch at a time."""

    def __init__(self) -> None:
        rest_while_waiting()
        self._rank: Rank | None = None
        self._meeting_place: TCPStore | None = None
        self._attempt: _Attempt | None = None
        self._alarm = StackAlarm()
        self._asked_to_stop = threading.Event()
        self._terminated = False
        self._last_sign, self._has_begun = time.monotonic(), False
        # Ray's own handler would end the process at once, and with it what the epoch has cost so far
        signal.signal(signal.SIGTERM, self._hear_sigterm)

    def meet(self) -> tuple[str, int]:
        """Open a place where the ranks of the gang meet; returns its host and port."""
        from cpsc_core.rank import meeting_place

        host: str = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._meeting_place = meeting_place(host)
        return host, self._meeting_place.port

    def join(self, index: int, shape: Shape, host: str, port: int) -> None:
        """Become one of the ranks that meet at a place; returns when all of them are there."""
        from cpsc_core.rank import Rank, meeting_place

        choose_interface(shape.interface, get_node_ip_address())  # type: ignore[no-untyped-call]
        self._rank = Rank.join(
            self._meeting_place or meeting_place(host, port),
            index=index,
            world_size=shape.workers,
            device=shape.device,
            timeout_seconds=_EXCHANGE_TIMEOUT_SECONDS,
        )

    def start(self, config: dict[str, Any]) -> Berth:
        """Get ready for an attempt, dropping the one before; returns where this is."""
        self._drop()
        from cpsc_core.rank import ALONE
        from cpsc_core.trial import run_trial

        assignment = Assignment.from_config(config)
        memory = MemoryWatch(assignment.shape.device)
        self._asked_to_stop.clear()
        rank = self._rank or ALONE
        courier = _courier_for(assignment, sends=rank.is_first)
        folder = Path(assignment.folder) if courier is None else courier.folder
        margin = 0.0 if courier is None else min(_SECONDS_TO_SEND, assignment.hang_seconds / 2)
        log = AttemptPaths.of(folder, assignment.attempt).log
        self._alarm.watch(log, assignment.hang_seconds - margin)
        self._last_sign, self._has_begun = time.monotonic(), False
        settings = TrialSettings.from_dict(assignment.settings)
        lines = run_trial(
            replace(settings, teacher=unpack_teacher(settings.teacher, assignment.parcels)),
            folder,
            assignment.attempt,
            threads=assignment.shape.cpus,
            device=assignment.shape.device,
            rank=rank,
            recompute=True if assignment.recompute else None,
            should_stop=partial(self._should_stop, memory),
            on_step=self._sign,
        )
        if courier is not None:
            lines = courier.follow(lines)
        self._attempt = _Attempt(assignment=assignment, memory=memory, lines=lines, courier=courier)
        return Berth(
            host=socket.gethostname(),
            node=ray.get_runtime_context().get_node_id(),
            pid=os.getpid(),
            memory_kills=processes_killed_for_memory(),
        )

    def advance(self) -> News:
        """Train to the end of the next epoch. A failure is news too: raising would cost the warm process."""
        if self._attempt is None:
            raise RuntimeError("the rank was asked to advance before it was given a trial")
        news = self._next_news(self._attempt)
        if news.ended is not None:
            self._drop()
        return news

    @ray.method(concurrency_group="watch")
    def pulse(self) -> Pulse:
        """Whether there is progress, and what it needs."""
        attempt = self._attempt
        return Pulse(
            silence=time.monotonic() - self._last_sign,
            has_begun=self._has_begun,
            terminated=self._terminated,
            memory=attempt.memory.use() if attempt else None,
        )

    @ray.method(concurrency_group="watch")
    def stop(self) -> None:
        """Ask the trial to checkpoint and end after the iteration it is in."""
        self._asked_to_stop.set()

    def _next_news(self, attempt: _Attempt) -> News:
        try:
            line = next(attempt.lines)
        except StopIteration:
            ended = EndClass.PREEMPTED if self._terminated else EndClass.STOPPED
            cause = "its process was sent SIGTERM; it saved a checkpoint" if self._terminated else None
            return News(ended=ended, cause=cause)
        except Exception as error:
            return attempt.explain(error)
        return News(line=line, ended=EndClass.COMPLETE if line.get("final") else None)

    def _should_stop(self, memory: MemoryWatch) -> bool:
        memory.note_idle()
        if not self._has_begun:
            self._alarm.rearm()  # the first iteration may hang too, and the log is there by now
        return self._asked_to_stop.is_set() or self._terminated

    def _sign(self) -> None:
        self._last_sign = time.monotonic()
        self._has_begun = True
        self._alarm.rearm()

    def _hear_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

    def _drop(self) -> None:
        """Forget the trial; what it held of memory is free for the next one, and for others."""
        self._alarm.rest()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            if isinstance(attempt.lines, Generator):
                attempt.lines.close()
            if attempt.courier is not None:
                attempt.courier.close()
            del attempt
            give_back_memory()


def _courier_for(assignment: Assignment, *, sends: bool) -> Courier | None:
    """Who brings a trial that lies in a bucket here, and back; None for one in a folder."""
    if not is_remote(assignment.folder):
        return None
    return Courier(BucketAddress.parse(assignment.folder), assignment.attempt, sends=sends)


def rest_while_waiting() -> None:
    """Let threads of this process sleep, not spin, while they wait for each other; call before torch loads.

    Spinning wins microseconds on an idle machine. On a busy one a spinning thread keeps the processor from
    the very thread it waits for: synthesising probe images took 85 s instead of 10 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
