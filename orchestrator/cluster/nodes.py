"""The machines below the ranks: which are about to go, and which have run out of memory."""

from __future__ import annotations

from typing import Any

import ray
from ray._private.state import state
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpsc_core.memory import processes_killed_for_memory

__all__ = ["draining", "memory_kills"]

_TIMEOUT_SECONDS = 10.0


def draining() -> frozenset[str]:
    """Ray's ids of the machines that are to be given back, spot machines for instance."""
    return frozenset(state.get_draining_nodes())


def memory_kills(node: str) -> int:
    """How many processes the kernel of a machine has killed for memory; 0 if it cannot be asked any more."""
    if node == ray.get_runtime_context().get_node_id():
        return processes_killed_for_memory()
    asked: Any = ray.remote(num_cpus=0, max_retries=0)(processes_killed_for_memory)
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    try:
        return int(ray.get(asked.options(scheduling_strategy=there).remote(), timeout=_TIMEOUT_SECONDS))
    except (RayError, GetTimeoutError):
        return 0
