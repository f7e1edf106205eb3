"""Ray as a muscle: start or join it quietly, and say what fits on it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.cluster.access import present_token, token_for
from orchestrator.cluster.capacity import Cluster
from orchestrator.cluster.head import Head, find_address, knock, unreachable
from orchestrator.cluster.scratch import make_scratch, remove_scratch
from orchestrator.errors import UnreachableError

__all__ = ["open_cluster"]

# What Ray, Tune and their libraries would otherwise print, start or write on their own account.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # as many as there is room for: who hands them out sees to that
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_VITAL = frozenset({"raylet", "gcs_server"})
_OBJECT_STORE_BYTES = 128 * 1024 * 1024


@contextmanager
def open_cluster(
    address: str | None, scratch: Path, say: Callable[[str], None] = lambda _: None
) -> Iterator[Cluster]:
    """Start a private Ray on this machine, or join the one at `address`, for as long as the block runs.

    A private Ray keeps its files and its own access token under `scratch`, which is removed at the end, as
    is what Tune leaves there on a cluster that was joined. Machines of a cluster that have other code than
    this process, or none, run this process's code; `say` is told how many.
    Raises UnreachableError if the cluster does not answer, UsageError if it is one to join with a token only.
    """
    os.environ.update(_QUIET)
    if address is not None:
        address = find_address(address)
    make_scratch(scratch)
    try:
        with token_for(address, scratch):
            if address is not None:
                knock(address)
            import ray

            present_token()
            for name in ("ray", "ray.tune", "ray.train", "ray.air", "ray.data"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            try:
                _enter(address, scratch)
                if address is not None:
                    _send_code(address, scratch, say)
                yield _look(address)
            finally:
                ray.shutdown()
    finally:
        remove_scratch(scratch)


def _enter(address: str | None, scratch: Path, **options: Any) -> None:
    import ray

    try:
        with _keeping_signal_handlers():
            ray.init(**_options(address, scratch), **options)
    except Exception as error:  # a Ray that did not start in time raises nothing more particular
        raise _refusal(address, error) from error


def _send_code(address: str, scratch: Path, say: Callable[[str], None]) -> None:
    """Join anew with this process's code, if there are machines that would run another one."""
    import ray

    from orchestrator.cluster.fleet import living_nodes
    from orchestrator.cluster.preflight import CODE, nodes_with_other_code

    differing = nodes_with_other_code(node for node in living_nodes() if node.cpus)
    if not differing:
        return
    say(f"sending the code to the cluster: {len(differing)} node(s) have none, or another version")
    ray.shutdown()
    code = scratch / "code"
    for package, folder in _packages(CODE).items():
        shutil.copytree(folder, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    # a working folder rather than modules: beside those, what lies where this process was started would win
    _enter(address, scratch, runtime_env={"working_dir": str(code)})


def _packages(names: tuple[str, ...]) -> dict[str, Path]:
    from importlib.util import find_spec

    specs = {name: find_spec(name) for name in names}
    return {name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin}


def _lost_processes() -> frozenset[str]:
    """What a private Ray cannot go on without and has lost.

    Nobody would start them again, and Ray itself would wait for a machine that never comes back.
    """
    from ray._private.worker import global_worker

    if global_worker.node is None:
        return frozenset()
    return frozenset(kind for kind, _ in global_worker.node.dead_processes()) & _VITAL


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
        "_temp_dir": str(scratch / "r"),  # Ray opens it to everybody: the folder around it is private
        **quiet,
    }


def _look(address: str | None) -> Cluster:
    from orchestrator.cluster.fleet import living_nodes

    if address is None:
        return Cluster(nodes=living_nodes(), lost=_lost_processes)
    head = Head(address)
    return Cluster(nodes=living_nodes(), is_joined=True, lost=head.lost)


def _refusal(address: str | None, error: Exception) -> UnreachableError:
    if address is not None:
        return unreachable(address, error)
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UnreachableError(f"Ray did not start on this machine: {reason}; run `cpsc-orchestrate doctor`")
