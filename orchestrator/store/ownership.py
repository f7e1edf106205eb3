"""Who owns a sweep, whatever it lies on: a lock in a folder, tokens in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from orchestrator.store.lease import Lease, read_note, read_owner
from orchestrator.store.links import refuse_links
from orchestrator.store.object_lease import ObjectLease, read_object_note, read_object_owner
from orchestrator.store.paths import SweepPaths
from orchestrator.store.working_copy import copy_of

__all__ = ["Ownership", "note_of", "own", "owner_of"]


class Ownership(AbstractContextManager["Ownership"], Protocol):
    """The right to write into one sweep; a context manager that gives it back."""

    generation: int
    """One more than the previous owner's; every record carries it."""
    previous: dict[str, Any]
    """What the previous owner had noted; empty if there was none."""
    fences: bool
    """Whether that owner was still alive, and was fenced off."""

    def check(self) -> None:
        """Raise FencedError if another controller has taken the sweep over."""

    def release(self) -> None:
        """Give the sweep back."""


def own(sweep: SweepPaths, *, note: Mapping[str, Any] | None = None, takeover: bool = False) -> Ownership:
    """Own a sweep, noting something for the next owner.

    With `takeover` a living owner is fenced off instead of respected. Raises OwnedError, naming the owner, if
    another controller holds it, and UsageError if its folder has links in it.
    """
    copy = copy_of(sweep.root)
    if copy is None:
        refuse_links(sweep.root)
        return Lease.acquire(sweep.lease, note=dict(note or {}), takeover=takeover)
    return ObjectLease.acquire(copy.address(sweep.root), note=note, takeover=takeover)


def owner_of(sweep: SweepPaths) -> str | None:
    """The living controller that owns a sweep, in words; None if nobody does."""
    copy = copy_of(sweep.root)
    return read_owner(sweep.lease) if copy is None else read_object_owner(copy.address(sweep.root))


def note_of(sweep: SweepPaths) -> dict[str, Any]:
    """What the last owner of a sweep noted; raises OwnedError while there is one."""
    copy = copy_of(sweep.root)
    return read_note(sweep.lease) if copy is None else read_object_note(copy.address(sweep.root))
