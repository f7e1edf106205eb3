"""The ranks of one trial: N actors in the trial's placement group, kept warm from trial to trial.

Several ranks stay connected as long as the gang lives. What they exchange is only matched by its order, so a
gang in which a rank may have left the order is ended rather than used again.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util import get_node_ip_address
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cpsc_core.settings import TrialSettings
from orchestrator.store.records import EndClass
from orchestrator.trial.assignment import Assignment, Shape
from orchestrator.trial.failure import GangLostError, classify, describe

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from cpsc_core.rank import Rank

__all__ = ["Gang", "News", "rest_while_waiting"]

_START_TIMEOUT_SECONDS = 120.0
_GRACE_SECONDS = 5.0
"""For the other ranks to say what they know of a failure."""
_EXCHANGE_TIMEOUT_SECONDS = 3600.0
"""Longer than any hang.seconds that makes sense: the driver watches the ranks, and ends the gang itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a rank has to say: a metrics line, an end, or both."""

    line: dict[str, Any] | None = None
    """The metrics line of the epoch that was just finished."""
    ended: EndClass | None = None
    """How the attempt ended; None while it goes on."""
    cause: str | None = None
    """Why, in one line."""
    trace: list[str] = field(default_factory=list)
    """Where, as traceback lines."""

    @property
    def has_failed(self) -> bool:
        """Whether the attempt ended in a failure."""
        return self.ended is not None and self.ended.is_failure


class RankProcess:
    """One training process. Its actor outlives the trial, so that torch is imported once."""

    def __init__(self) -> None:
        rest_while_waiting()
        self._rank: Rank | None = None
        self._meeting_place: TCPStore | None = None
        self._lines: Iterator[dict[str, Any]] | None = None
        self._asked_to_stop = threading.Event()
        self._last_sign = time.monotonic()

    def meet(self) -> tuple[str, int]:
        """Open a place where the ranks of the gang meet; returns its host and port."""
        from cpsc_core.rank import meeting_place

        host: str = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._meeting_place = meeting_place(host)
        return host, self._meeting_place.port

    def join(self, index: int, shape: Shape, host: str, port: int) -> None:
        """Become one of the ranks that meet at a place; returns when all of them are there."""
        from cpsc_core.rank import Rank, meeting_place

        self._rank = Rank.join(
            self._meeting_place or meeting_place(host, port),
            index=index,
            world_size=shape.workers,
            device=shape.device,
            timeout_seconds=_EXCHANGE_TIMEOUT_SECONDS,
        )

    def start(self, config: dict[str, Any]) -> int:
        """Get ready for an attempt, dropping the one before; returns the process id."""
        self._drop()
        from cpsc_core.rank import ALONE
        from cpsc_core.trial import run_trial

        assignment = Assignment.from_config(config)
        self._asked_to_stop.clear()
        self._sign()
        self._lines = run_trial(
            TrialSettings.from_dict(assignment.settings),
            Path(assignment.folder),
            assignment.attempt,
            threads=assignment.shape.cpus,
            device=assignment.shape.device,
            rank=self._rank or ALONE,
            should_stop=self._asked_to_stop.is_set,
            on_step=self._sign,
        )
        return os.getpid()

    def advance(self) -> News:
        """Train to the end of the next epoch. A failure is news too: raising would cost the warm process."""
        if self._lines is None:
            raise RuntimeError("the rank was asked to advance before it was given a trial")
        try:
            line = next(self._lines)
        except StopIteration:
            return News(ended=EndClass.STOPPED)
        except Exception as error:
            return News(
                ended=classify(error), cause=describe(error), trace=traceback.format_exc().splitlines()
            )
        return News(line=line, ended=EndClass.COMPLETE if line.get("final") else None)

    @ray.method(concurrency_group="watch")
    def silence(self) -> float:
        """Seconds since the last finished update."""
        return time.monotonic() - self._last_sign

    @ray.method(concurrency_group="watch")
    def stop(self) -> None:
        """Ask the trial to checkpoint and end after the iteration it is in."""
        self._asked_to_stop.set()

    def _sign(self) -> None:
        self._last_sign = time.monotonic()

    def _drop(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None and hasattr(lines, "close"):
            lines.close()


class Gang:
    """The driver's handle on its ranks."""

    def __init__(self, shape: Shape, group: PlacementGroup) -> None:
        """Start a rank in each bundle of a group; Tune leaves the driver's empty bundle out of it."""
        self.shape = shape
        self.is_sound = True
        self._connected = shape.workers == 1
        actor: Any = ray.remote(concurrency_groups={"watch": 1})(RankProcess)  # type: ignore[call-overload]
        self._ranks: list[Any] = [
            actor.options(
                num_cpus=shape.cpus,
                num_gpus=shape.gpus,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_bundle_index=index
                ),
            ).remote()
            for index in range(shape.workers)
        ]

    def start(self, config: dict[str, Any]) -> None:
        """Give every rank the trial; raises GangLostError if one does not come up."""
        try:
            self._connect()
            ray.get([rank.start.remote(config) for rank in self._ranks], timeout=_START_TIMEOUT_SECONDS)
        except (RayActorError, GetTimeoutError) as error:
            raise GangLostError(f"a rank did not start: {_first_line(error)}") from error

    def _connect(self) -> None:
        if self._connected:
            return
        host, port = ray.get(self._ranks[0].meet.remote(), timeout=_START_TIMEOUT_SECONDS)
        joins = [rank.join.remote(index, self.shape, host, port) for index, rank in enumerate(self._ranks)]
        ray.get(joins, timeout=_START_TIMEOUT_SECONDS)
        self._connected = True

    def advance(self) -> list[ray.ObjectRef[News]]:
        """Let every rank train to the end of its next epoch; returns the answers to come."""
        return [rank.advance.remote() for rank in self._ranks]

    def news(self, answers: list[ray.ObjectRef[News]], timeout_seconds: float) -> News | None:
        """The first rank's news once all ranks have answered, None if they have not yet.

        A failure is news as soon as one rank has failed: the others may be waiting for it. Raises
        GangLostError if a rank is gone.
        """
        said = self._answers(answers, timeout_seconds)
        if any(each.has_failed for each in said) and len(said) < len(answers):
            said = self._answers(answers, _GRACE_SECONDS)
        failures = [each for each in said if each.has_failed]
        if failures:
            # all ranks find a divergence at the same place; after anything else they may be out of step
            together = len(failures) == len(answers) and {each.ended for each in failures} == {
                EndClass.DIVERGED
            }
            self.is_sound = self.shape.workers == 1 or together
            return failures[0]
        return said[0] if len(said) == len(answers) else None

    def _answers(self, answers: list[ray.ObjectRef[News]], timeout_seconds: float) -> list[News]:
        """What has been said within some time, in the order of the ranks."""
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=timeout_seconds)
        try:
            said: list[News] = ray.get([answer for answer in answers if answer in ready])
        except RayActorError as error:
            raise GangLostError(f"a rank died: {_first_line(error)}") from error
        return said

    def silence(self) -> float:
        """Seconds since a rank finished an update; raises GangLostError if one is gone.

        One that hangs silences all, which wait for it. The first may be scoring while the others wait.
        """
        try:
            silences: list[float] = ray.get([rank.silence.remote() for rank in self._ranks], timeout=5.0)
            return min(silences)
        except GetTimeoutError:
            return float("inf")
        except RayActorError as error:
            raise GangLostError(f"a rank died: {_first_line(error)}") from error

    def stop(self) -> None:
        """Ask every rank to checkpoint and end its trial."""
        for rank in self._ranks:
            rank.stop.remote()

    def end(self) -> None:
        """Kill the ranks."""
        for rank in self._ranks:
            ray.kill(rank)


def rest_while_waiting() -> None:
    """Let threads of this process sleep, not spin, while they wait for each other; call before torch loads.

    Spinning wins microseconds on an idle machine. On a busy one a spinning thread keeps the processor from
    the very thread it waits for: synthesising probe images took 85 s instead of 10 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
