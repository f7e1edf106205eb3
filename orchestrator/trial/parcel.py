"""A file on its way to machines, in plain values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Parcel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file that whoever unpacks it is brought, see `orchestrator.trial.shipping`."""

    name: str
    """Name of the file."""
    sha256: str
    """Digest of its content."""
    ticket: str
    """What Ray gives the content out for; good for as long as the process lives that packed it."""
