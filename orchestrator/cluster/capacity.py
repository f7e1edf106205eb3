"""What fits on the machines of a cluster; needs no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from orchestrator.cluster.shape import Shape
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.config.schema import Resources

__all__ = ["Cluster", "Fixed", "Node", "Places", "Room"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of the cluster."""

    host: str
    """Its address."""
    cpus: float
    """Its CPUs, as Ray counts them."""
    gpus: float
    """Its GPUs."""
    id: str = ""
    """Ray's id of it."""
    name: str = ""
    """What it calls itself."""

    def __str__(self) -> str:
        return f"{self.host} ({self.name})" if self.name else self.host

    def ranks(self, shape: Shape) -> int:
        """How many ranks of a shape fit on it."""
        by_cpu = int(self.cpus // shape.cpus)
        if not shape.gpus:
            return by_cpu
        if shape.gpus < 1:  # a share lies on one GPU: two of 0.4 fit on each, and what is left is left
            return min(by_cpu, int(self.gpus) * int(1.0 / shape.gpus + 1e-9))
        return min(by_cpu, int(self.gpus // shape.gpus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much may run at the moment, and where."""

    slots: int
    """Trials that fit at once."""
    nodes: tuple[str, ...] = ()
    """Ray's ids of the machines that may run them; empty: any."""


class Places(Protocol):
    """Who knows where trials may run."""

    def room(self) -> Room:
        """How much may run at the moment, and where."""

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        """Whether one of some machines is still there."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Places that neither join nor leave."""

    slots: int
    """Trials that fit at once."""

    def room(self) -> Room:
        """The same at every moment."""
        return Room(slots=self.slots)

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        """They all are."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What there is to run on."""

    nodes: tuple[Node, ...]
    """Every living machine."""
    is_joined: bool = False
    """Whether it was there before; else it is this machine alone, and ends with the sweep."""
    lost: Callable[[], frozenset[str]] = field(default=frozenset, compare=False)
    """Names what it cannot go on without and has lost; any thread may ask."""

    @property
    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        return any(node.gpus for node in self.nodes)

    def fitting(self, shape: Shape) -> tuple[Node, ...]:
        """The machines with room for one rank at least."""
        return tuple(node for node in self.nodes if node.ranks(shape))

    def room(self, shape: Shape) -> int:
        """How many trials of a shape fit at once, each rank on one machine; 0 if not even one."""
        return sum(node.ranks(shape) for node in self.nodes) // shape.workers

    def shape(self, wish: Resources) -> Shape:
        """The processes of one trial that an experiment file asks for."""
        gpus = float(self.has_gpus) if wish.gpus_per_worker == "auto" else float(wish.gpus_per_worker)
        return Shape(
            workers=wish.workers,
            cpus=wish.cpus_per_worker,
            gpus=gpus,
            placement=wish.placement,
            interface=wish.interface,
            start_seconds=wish.start_seconds,
        )

    def slots(self, shape: Shape) -> int:
        """The room for a shape; raises UsageError, naming what is missing, if there is none."""
        if room := self.room(shape):
            return room
        wanted = f"{shape.workers} rank(s) of {shape.cpus} CPU(s) and {shape.gpus:g} GPU(s)"
        if not self.nodes:
            raise UsageError(f"a trial needs {wanted}; the cluster has no node at all; add one")
        ranks = sum(node.ranks(shape) for node in self.nodes)
        most = max(self.nodes, key=lambda node: (node.gpus, node.cpus))
        raise UsageError(
            f"a trial needs {wanted}; "
            f"the cluster has room for {ranks}: its largest of {len(self.nodes)} node(s), {most}, "
            f"has {most.cpus:g} CPU(s) and {most.gpus:g} GPU(s); missing: {self._missing(shape, ranks)}; "
            "lower resources.workers, cpus_per_worker or gpus_per_worker, or add a node"
        )

    def _missing(self, shape: Shape, ranks: int) -> str:
        cpus = shape.cpus - max(node.cpus for node in self.nodes)
        gpus = shape.gpus - max(node.gpus for node in self.nodes)
        lacking = [f"{count:g} {what}" for count, what in ((cpus, "CPU(s)"), (gpus, "GPU(s)")) if count > 0]
        if lacking:
            return f"{' and '.join(lacking)} on one node"
        return f"room for {shape.workers - ranks} rank(s)" if ranks else "a node that has both at once"
