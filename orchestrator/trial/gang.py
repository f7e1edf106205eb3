"""The ranks of one trial: N actors in the trial's placement group, kept warm from trial to trial.

Several ranks stay connected as long as the gang lives. What they exchange is only matched by its order, so a
gang in which a rank may have left the order is ended rather than used again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.cluster.nodes import draining, memory_kills
from orchestrator.cluster.shape import Shape
from orchestrator.store.records import EndClass
from orchestrator.trial.assignment import Assignment
from orchestrator.trial.failure import GangLostError, MemoryShortError, PreemptedError
from orchestrator.trial.news import Berth, News
from orchestrator.trial.rank_process import RankProcess
from orchestrator.trial.watch import Watch

__all__ = ["Gang"]

_GRACE_SECONDS = 5.0
"""For the other ranks to say what they know of a failure."""

_MACHINE_USED = re.compile(r"was (\S+ used / \S+ limit)")
_PROCESS_USED = re.compile(r"actual memory used=(\S+?),")


class Gang:
    """The driver's handle on its ranks."""

    def __init__(self, shape: Shape, group: PlacementGroup) -> None:
        """Start a rank in each bundle of a group; Tune leaves the driver's empty bundle out of it."""
        self.shape = shape
        self.is_sound = True
        self._connected = shape.workers == 1
        self._berths: list[Berth] = []
        self._batch_size = 0
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
        self._watch = Watch(self._ranks, shape.start_seconds)

    def start(self, assignment: Assignment) -> None:
        """Give every rank the trial; raises GangLostError if one does not come up."""
        self._batch_size = assignment.settings["train"]["batch_size"]
        config = assignment.to_config()
        try:
            self._connect()
            starts = [rank.start.remote(config) for rank in self._ranks]
            self._berths = ray.get(starts, timeout=self.shape.start_seconds)
        except GetTimeoutError as error:
            limit = f"{self.shape.start_seconds:g} s (resources.start_seconds)"
            raise GangLostError(f"a rank did not start within {limit}") from error
        except (RayActorError, OutOfMemoryError) as error:
            raise self._loss(error, "a rank did not start") from error
        self._watch.start_anew()

    def advance(self) -> list[ray.ObjectRef[News]]:
        """Let every rank train to the end of its next epoch; returns the answers to come."""
        return [rank.advance.remote() for rank in self._ranks]

    def news(self, answers: list[ray.ObjectRef[News]], timeout_seconds: float) -> News | None:
        """The first rank's news once all ranks have answered, None if they have not yet.

        A failure is news as soon as one rank has failed: the others may be waiting for it. Raises
        GangLostError, MemoryShortError or PreemptedError if a rank is gone.
        """
        said = self._answers(answers, timeout_seconds)
        if any(each.has_failed for each in said.values()) and len(said) < len(answers):
            said = self._answers(answers, _GRACE_SECONDS)
        failures = [replace(each, node=self.host(rank)) for rank, each in said.items() if each.has_failed]
        if failures:
            # all ranks find a divergence at the same place; after anything else they may be out of step
            together = len(failures) == len(answers) and {each.ended for each in failures} == {
                EndClass.DIVERGED
            }
            is_leaving = any(each.ended is EndClass.PREEMPTED for each in failures)
            self.is_sound = (self.shape.workers == 1 or together) and not is_leaving
            return failures[0]
        if len(said) < len(answers):
            return None
        self._watch.note_update()
        return replace(said[0], node=self.host(0))

    def host(self, rank: int) -> str | None:
        """Name of the machine a rank is on; None before it has said so."""
        return self._berths[rank].host if rank < len(self._berths) else None

    def look(self, hang_seconds: float) -> None:
        """Raise HangError if nobody makes progress, and what `news` raises if a rank is gone."""
        try:
            self._watch.look()
        except (RayActorError, OutOfMemoryError) as error:
            raise self._loss(error, "a rank died") from error
        self._watch.refuse_silence(hang_seconds)

    def leaving(self) -> str | None:
        """Which machine of the gang is to be given back, in words; None if none is."""
        going = draining()
        hosts = [berth.host for berth in self._berths if berth.node in going]
        return f"{hosts[0]} is drained; the trial goes on elsewhere" if hosts else None

    def stop(self) -> None:
        """Ask every rank to checkpoint and end its trial."""
        for rank in self._ranks:
            rank.stop.remote()

    def end(self) -> None:
        """Kill the ranks."""
        for rank in self._ranks:
            ray.kill(rank)

    def _connect(self) -> None:
        if self._connected:
            return
        host, port = ray.get(self._ranks[0].meet.remote(), timeout=self.shape.start_seconds)
        joins = [rank.join.remote(index, self.shape, host, port) for index, rank in enumerate(self._ranks)]
        ray.get(joins, timeout=self.shape.start_seconds)
        self._connected = True

    def _answers(self, answers: list[ray.ObjectRef[News]], timeout_seconds: float) -> dict[int, News]:
        """What has been said within some time, by rank."""
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=timeout_seconds)
        try:
            return {rank: ray.get(answer) for rank, answer in enumerate(answers) if answer in ready}
        except (RayActorError, OutOfMemoryError) as error:
            raise self._loss(error, "a rank died") from error

    def _loss(self, error: Exception, what: str) -> Exception:
        """Why a rank is gone, as an error of ours."""
        if isinstance(error, OutOfMemoryError):
            return MemoryShortError(self._explain_kill(str(error)))
        if isinstance(error, RayActorError) and error.preempted:
            return PreemptedError(f"{what}: its machine was drained and is gone")
        if self._watch.terminated:
            return PreemptedError(f"{what} after it had been sent SIGTERM")
        for index, berth in enumerate(self._berths):
            if memory_kills(berth.node) > berth.memory_kills:
                use = self._watch.memory(index)
                needs = f"; {use.explain(self._batch_size, self.shape.workers)}" if use else ""
                return MemoryShortError(f"the kernel of {berth.host} killed a rank to free memory{needs}")
        return GangLostError(f"{what}: {_first_line(error)}")

    def _explain_kill(self, text: str) -> str:
        """What Ray says on two pages of a process that it killed for memory."""
        machine, process = _MACHINE_USED.search(text), _PROCESS_USED.search(text)
        said = f"Ray killed a rank because memory ran out: the machine had {machine[1]}" if machine else text
        held = f", the rank {process[1]}" if process else ""
        smaller = self._batch_size // 2
        advice = f"; try a batch_size of {smaller} instead of {self._batch_size}" if smaller else ""
        return f"{said}{held}{advice}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
