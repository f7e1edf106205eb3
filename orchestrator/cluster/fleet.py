"""The machines that run a sweep's trials: those that were there at the start, less the lost, and new ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

from orchestrator.cluster.capacity import Cluster, Node, Room
from orchestrator.cluster.fault import refusal
from orchestrator.cluster.nodes import draining
from orchestrator.cluster.preflight import Answer, Preflight
from orchestrator.cluster.shape import Shape

__all__ = ["Fleet", "living_nodes"]

_GLANCE_SECONDS = 0.5


def living_nodes() -> tuple[Node, ...]:
    """Every machine of the cluster that is alive and not about to go."""
    going = draining()
    there: Any = ray.nodes()  # type: ignore[no-untyped-call]
    return tuple(_node(each) for each in there if each["Alive"] and each["NodeID"] not in going)


class Fleet:
    """Who of a cluster that was joined runs trials; those that join on the way do after the preflight."""

    def __init__(
        self,
        shape: Shape,
        preflight: Preflight,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shape = shape
        self._preflight = preflight
        self._say = say
        self._clock = clock
        self._looked = float("-inf")
        self._admitted: dict[str, Node] = {}
        self._asked: dict[str, tuple[Node, Answer]] = {}
        self._refused: set[str] = set()
        self._living: tuple[Node, ...] = ()
        self._room = Room(slots=0)

    def admit(self, cluster: Cluster) -> None:
        """Look at every machine with room for a rank; raises one error that names all that cannot do it."""
        fitting = cluster.fitting(self._shape)
        self._say(f"looking at {len(fitting)} node(s)")
        if (error := refusal(self._preflight.examine(fitting))) is not None:
            raise error
        self._admitted = {node.id: node for node in fitting}
        self._living = fitting

    def room(self) -> Room:
        """How many trials fit now, and on which machines; looks at the cluster twice a second at most.

        A machine that is gone stays among those that may run trials: nothing is placed on it, and a change of
        the list would cost every other trial its warm processes.
        """
        if (now := self._clock()) - self._looked > _GLANCE_SECONDS:
            self._looked = now
            self._look()
            self._room = Room(slots=self._cluster().room(self._shape), nodes=tuple(self._admitted))
        return self._room

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        """Whether one of some machines is still alive."""
        return any(node.id in nodes for node in self._living)

    def _look(self) -> None:
        before = {node.id for node in self._living} & self._admitted.keys()
        self._living = living_nodes()
        there = {node.id for node in self._living}
        for lost in before - there:
            self._say(f"node {self._admitted[lost]} is gone or about to go; {self._left()}")
        for node in Cluster(nodes=self._living).fitting(self._shape):
            if node.id not in self._admitted and node.id not in self._asked and node.id not in self._refused:
                self._asked[node.id] = node, self._preflight.ask(node)
        for node, answer in list(self._asked.values()):
            if node.id not in there:
                del self._asked[node.id]
            elif ray.wait([answer], timeout=0)[0]:
                del self._asked[node.id]
                self._hear(node, answer)

    def _hear(self, node: Node, answer: Any) -> None:
        faults = self._preflight.judge(node, answer)
        if faults:
            self._refused.add(node.id)
            self._say(f"node {node} joined and cannot run trials: {'; '.join(map(str, faults))}")
        else:
            self._admitted[node.id] = node
            self._say(f"node {node} joined; {self._left()}")

    def _left(self) -> str:
        return f"room for {self._cluster().room(self._shape)} trial(s)"

    def _cluster(self) -> Cluster:
        return Cluster(nodes=tuple(node for node in self._living if node.id in self._admitted))


def _node(raw: dict[str, Any]) -> Node:
    return Node(
        host=raw["NodeManagerAddress"],
        cpus=raw["Resources"].get("CPU", 0.0),
        gpus=raw["Resources"].get("GPU", 0.0),
        id=raw["NodeID"],
        name=raw["NodeManagerHostname"],
    )
