"""Whether a name stands for a network, of ours or of a library."""

from __future__ import annotations

from cpsc_core import tables
from cpsc_core.errors import CoreError
from cpsc_core.networks.offered import check_offered
from orchestrator.config.document import shown
from orchestrator.config.messages import unknown

__all__ = ["unknown_network"]


def unknown_network(arch: str) -> str | None:
    """That no network has a name, and which is meant perhaps; None if one has it."""
    library, name = tables.library_of(arch)
    if arch not in tables.NETWORKS:
        return unknown(f"network {shown(arch)}", arch, tables.names(tables.NETWORKS))
    if name and library in tables.NETWORKS.libraries:
        try:
            check_offered(library, name)
        except CoreError as error:
            return str(error)
    return None
