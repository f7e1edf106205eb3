"""Ray as a muscle: start or join it quietly, and say what fits on it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import UnreachableError, UsageError
from orchestrator.scratch import remove_scratch
from orchestrator.trial.assignment import Shape

__all__ = ["Cluster", "Node", "lost_processes", "open_cluster"]

# What Ray, Tune and their libraries would otherwise print, start or write on their own account.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_VITAL = frozenset({"raylet", "gcs_server"})
_KNOCK_SECONDS = 5.0
_OBJECT_STORE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of the cluster."""

    host: str
    """Its address."""
    cpus: float
    """Its CPUs, as Ray counts them."""
    gpus: float
    """Its GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What there is to run on."""

    nodes: tuple[Node, ...]
    """Every living machine."""

    @property
    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        return any(node.gpus for node in self.nodes)

    def slots(self, shape: Shape) -> int:
        """How many trials of a shape fit at once, each rank on one machine.

        Raises UsageError, naming what is missing, if not even one does.
        """
        ranks = sum(self._ranks_on(node, shape) for node in self.nodes)
        if ranks < shape.workers:
            most = max(self.nodes, key=lambda node: (node.gpus, node.cpus))
            raise UsageError(
                f"a trial needs {shape.workers} rank(s) of {shape.cpus} CPU(s) and {shape.gpus:g} GPU(s); "
                f"the cluster has room for {ranks}: its largest of {len(self.nodes)} node(s), {most.host}, "
                f"has {most.cpus:g} CPU(s) and {most.gpus:g} GPU(s); missing: {self._missing(shape, ranks)}; "
                "lower resources.workers, cpus_per_worker or gpus_per_worker, or add a node"
            )
        return ranks // shape.workers

    def _missing(self, shape: Shape, ranks: int) -> str:
        cpus = shape.cpus - max(node.cpus for node in self.nodes)
        gpus = shape.gpus - max(node.gpus for node in self.nodes)
        lacking = [f"{count:g} {what}" for count, what in ((cpus, "CPU(s)"), (gpus, "GPU(s)")) if count > 0]
        if lacking:
            return f"{' and '.join(lacking)} on one node"
        return f"room for {shape.workers - ranks} rank(s)" if ranks else "a node that has both at once"

    @staticmethod
    def _ranks_on(node: Node, shape: Shape) -> int:
        by_cpu = int(node.cpus // shape.cpus)
        if not shape.gpus:
            return by_cpu
        if shape.gpus < 1:  # a share lies on one GPU: two of 0.4 fit on each, and what is left is left
            return min(by_cpu, int(node.gpus) * int(1.0 / shape.gpus + 1e-9))
        return min(by_cpu, int(node.gpus // shape.gpus))


@contextmanager
def open_cluster(address: str | None, scratch: Path) -> Iterator[Cluster]:
    """Start a private Ray on this machine, or join the one at `address`, for as long as the block runs.

    A private Ray keeps its files and its own access token under `scratch`, which is removed at the end, as
    is what Tune leaves there on a cluster that was joined.
    Raises UnreachableError if the cluster does not answer.
    """
    os.environ.update(_QUIET)
    if address is None:
        _make_token(scratch)
    else:
        _knock(address)
    import ray

    for name in ("ray", "ray.tune", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        try:
            with _keeping_signal_handlers():
                ray.init(**_options(address, scratch))
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            raise UnreachableError(_unreachable(address, error)) from error
        yield _look(ray)
    finally:
        ray.shutdown()
        remove_scratch(scratch)


def lost_processes() -> set[str]:
    """What a private Ray cannot go on without and has lost; nothing on a cluster that was joined.

    Nobody would start them again, and Ray itself would wait for a machine that never comes back. A cluster
    that was joined may get its machines back, and is waited for.
    """
    from ray._private.worker import global_worker

    if global_worker.node is None:
        return set()
    return {kind for kind, _ in global_worker.node.dead_processes()} & _VITAL


@contextmanager
def _keeping_signal_handlers() -> Iterator[None]:
    """Put our handlers back: with Ray's own for SIGTERM the process aborts, and nothing is checkpointed."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ours.items():
                signal.signal(number, handler)


def _options(address: str | None, scratch: Path) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if address is not None:
        return {"address": address, **quiet}
    return {
        "address": "local",
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_temp_dir": str(scratch),
        **quiet,
    }


def _make_token(scratch: Path) -> None:
    """A token of this sweep's own: Ray's default is one for all, in a file that others may read."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = scratch / "token"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode())
    finally:
        os.close(handle)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _look(ray: Any) -> Cluster:
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        nodes=tuple(
            Node(
                host=node["NodeManagerAddress"],
                cpus=node["Resources"].get("CPU", 0.0),
                gpus=node["Resources"].get("GPU", 0.0),
            )
            for node in alive
        )
    )


def _knock(address: str) -> None:
    """Raise UnreachableError unless something answers at an address: Ray itself would try for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        raise UsageError(f"--address must be HOST:PORT of a Ray head, but is {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
    except OSError as error:
        raise UnreachableError(_unreachable(address, error)) from error


def _unreachable(address: str | None, error: Exception) -> str:
    if address is None:
        where, hint = "Ray did not start on this machine", "run `cpsc-orchestrate doctor`"
    else:
        where = f"no Ray cluster answers at {address}"
        hint = "check the address, and that RAY_AUTH_TOKEN_PATH names the file with the cluster's token"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{where}: {reason}; {hint}"
