"""A Ray of two machines, which are raylets on this one: they can be drained and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["TwoNodes", "two_nodes"]

_SCRIPT = """
import json, os, sys, time
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

def say(**what):
    print(json.dumps(what), flush=True)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
say(address=cluster.address, nodes=[cluster.head_node.node_id, other.node_id])
for line in sys.stdin:
    match line.split():
        case ["drain"]:
            deadline = int((time.time() + 3600) * 1000)
            reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
            gcs = GcsClient(address=cluster.address)
            say(drained=gcs.drain_node(other.node_id, reason, "spot", deadline)[0])
        case ["behead"]:
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            say(beheaded=True)
        case ["leave"]:
            cluster.remove_node(other)
            say(left=True)
        case ["kill"]:
            cluster.remove_node(other, allow_graceful=False)
            say(killed=True)
        case ["add", *variables]:
            os.environ.update(pair.split("=", 1) for pair in variables)
            other = cluster.add_node(num_cpus=1)
            say(added=other.node_id)
cluster.shutdown()
"""


@dataclass
class TwoNodes:
    """A head and another node, of one CPU each."""

    address: str
    """What a sweep joins it by."""
    nodes: list[str]
    """Ray's ids of the head and of the other node."""
    environment: dict[str, str]
    """Variables with which a process may join it."""
    _process: subprocess.Popen[str]

    def drain(self) -> None:
        """Ask for the other node back, as a cloud does with a spot machine; it stays up meanwhile."""
        assert self._order("drain")["drained"]

    def kill(self) -> None:
        """Kill the other node's raylet."""
        self._order("kill")

    def leave(self) -> None:
        """Have the other node say good-bye and go: nobody waits for it to answer."""
        self._order("leave")

    def add(self, **environment: str) -> None:
        """Add a node, the other one from now on, with variables in its environment."""
        self._order(" ".join(["add", *(f"{name}={value}" for name, value in environment.items())]))

    def behead(self) -> None:
        """Kill all that belongs to the head."""
        self._order("behead")

    def _order(self, order: str) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{order}\n")
        stdin.flush()
        return _read(stdout)


@contextmanager
def two_nodes(folder: Path) -> Iterator[TwoNodes]:
    """Start it, with an access token and a cache of its own in a folder, and end it."""
    folder.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text("0" * 64)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment, "XDG_CACHE_HOME": str(folder / "cache")},
    )
    try:
        assert process.stdout is not None
        started = _read(process.stdout)
        yield TwoNodes(started["address"], started["nodes"], environment, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


def _read(stdout: IO[str]) -> Any:
    """The next line that is ours: Ray prints too."""
    for line in stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise AssertionError("the cluster ended")
