"""The ranks of one trial: N actors in the trial's placement group, kept warm from trial to trial."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cpsc_core.settings import TrialSettings
from orchestrator.store.records import EndClass
from orchestrator.trial.assignment import Assignment, Shape
from orchestrator.trial.failure import GangLostError, classify, describe

__all__ = ["Gang", "News", "rest_while_waiting"]

_START_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What rank 0 has to say: a metrics line, an end, or both."""

    line: dict[str, Any] | None = None
    """The metrics line of the epoch that was just finished."""
    ended: EndClass | None = None
    """How the attempt ended; None while it goes on."""
    cause: str | None = None
    """Why, in one line."""
    trace: list[str] = field(default_factory=list)
    """Where, as traceback lines."""


class Rank:
    """One training process. Its actor outlives the trial, so that torch is imported once."""

    def __init__(self) -> None:
        rest_while_waiting()
        self._lines: Iterator[dict[str, Any]] | None = None
        self._asked_to_stop = threading.Event()
        self._last_sign = time.monotonic()

    def start(self, config: dict[str, Any]) -> int:
        """Get ready for an attempt, dropping the one before; returns the process id."""
        self._drop()
        from cpsc_core.trial import run_trial

        assignment = Assignment.from_config(config)
        self._asked_to_stop.clear()
        self._sign()
        self._lines = run_trial(
            TrialSettings.from_dict(assignment.settings),
            Path(assignment.folder),
            assignment.attempt,
            threads=assignment.shape.cpus,
            device="cuda" if assignment.shape.gpus else "cpu",
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
        """Seconds since the last finished iteration."""
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
        actor: Any = ray.remote(concurrency_groups={"watch": 1})(Rank)  # type: ignore[call-overload]
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
            ray.get([rank.start.remote(config) for rank in self._ranks], timeout=_START_TIMEOUT_SECONDS)
        except (RayActorError, GetTimeoutError) as error:
            raise GangLostError(f"a rank did not start: {_first_line(error)}") from error

    def advance(self) -> list[ray.ObjectRef[News]]:
        """Let every rank train to the end of its next epoch; returns the answers to come."""
        return [rank.advance.remote() for rank in self._ranks]

    def news(self, answers: list[ray.ObjectRef[News]], timeout_seconds: float) -> News | None:
        """Rank 0's news once all ranks have answered, None if they have not yet.

        Raises GangLostError as soon as one rank is gone.
        """
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=timeout_seconds)
        try:
            said: list[News] = ray.get(ready)
        except RayActorError as error:
            raise GangLostError(f"a rank died: {_first_line(error)}") from error
        if failed := next((each for each in said if each.ended and each.ended.is_failure), None):
            return failed
        return said[0] if said and len(said) == len(answers) else None

    def silence(self) -> float:
        """Seconds since the slowest rank finished an iteration; raises GangLostError if one is gone."""
        try:
            silences: list[float] = ray.get([rank.silence.remote() for rank in self._ranks], timeout=5.0)
            return max(silences)
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
