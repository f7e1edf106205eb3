"""Where a sweep's trials may run: this machine, or those of a cluster that pass the preflight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from orchestrator.cluster.capacity import Cluster, Fixed, Places, Room
from orchestrator.cluster.shape import Shape
from orchestrator.store.address import Storage
from orchestrator.store.space import Space

__all__ = ["Spacious", "open_places"]


@dataclass(frozen=True, slots=True)
class Spacious:
    """Places where no trial begins while the storage lacks room for its checkpoints."""

    places: Places
    """Where trials may run otherwise."""
    space: Space
    """The room in the storage."""

    def room(self) -> Room:
        """None while the storage is too full."""
        room = self.places.room()
        return room if self.space.suffices(room.slots) else replace(room, slots=0)

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        """Whether one of some machines is still there."""
        return self.places.has_living(nodes)


@contextmanager
def open_places(
    cluster: Cluster, shape: Shape, *, shared: Storage, data: str | None, say: Callable[[str], None]
) -> Iterator[Places]:
    """Where trials of a shape may run while the block runs.

    All machines of a cluster that was joined must see the folder, or reach the bucket, `shared`, and read the
    folder `data`.
    Raises UsageError if trials fit nowhere, and UsageError or UnreachableError, naming all machines that are
    at fault, if some are unfit for them.
    """
    slots = cluster.slots(shape)
    if not cluster.is_joined:
        yield Fixed(slots)
        return
    from orchestrator.cluster.fleet import Fleet
    from orchestrator.cluster.preflight import Preflight

    folders = [data] if data else []
    with Preflight(shared, folders, gpus=shape.gpus > 0, interface=shape.interface) as preflight:
        fleet = Fleet(shape, preflight, say)
        fleet.admit(cluster)
        yield fleet
