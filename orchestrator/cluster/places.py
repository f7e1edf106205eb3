"""Where a sweep's trials may run: this machine, or those of a cluster that pass the preflight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.cluster.capacity import Cluster, Fixed, Places
from orchestrator.cluster.shape import Shape
from orchestrator.store.address import Storage

__all__ = ["open_places"]


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
