"""Machines that are network namespaces of this one: a head and workers.

Each has an address, a name, a `/tmp` and a home of its own. Workers have none of our code, and see nothing of
what runs on others. All share the storage, and the Python environment, as an image would give it to them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cpsc_core
import orchestrator

__all__ = ["Machines", "machines", "why_not"]

_NETWORK = "10.213.77"
_PORT = 6379
_RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
_START = r"""
set -e
hostname "$1"; shift
mount -t tmpfs tmpfs /tmp
mkdir -p /tmp/home /tmp/empty
for hidden in $HIDDEN; do mount --bind /tmp/empty "$hidden"; done
export HOME=/tmp/home
exec "$@"
"""


def why_not() -> str | None:
    """Why such machines cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]:
        return f"needs {', '.join(missing)} (apt install iproute2 util-linux)"
    if Path(sys.executable).is_relative_to("/tmp"):
        return f"{sys.executable} lies in /tmp, of which each machine has its own"
    name = f"cpsc{os.getpid()}try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    _run("ip", "netns", "delete", name)
    return None


@dataclass
class Machines:
    """A bridge, and who hangs on it."""

    shared: Path
    """A folder that all of them see."""
    _prefix: str
    _environment: dict[str, str]
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the head is."""
        return f"{_NETWORK}.1:{_PORT}"

    def ip(self, name: str) -> str:
        """The address of a machine."""
        return f"{_NETWORK}.{1 if name == 'head' else 2 + ord(name[-1]) - ord('a')}"

    def start(self, name: str, cpus: int) -> None:
        """Plug in a machine and start its part of Ray: `head`, `worker-a`, `worker-b`, ..."""
        self._plug(name)
        common = ["--block", f"--node-ip-address={self.ip(name)}", f"--num-cpus={cpus}", "--num-gpus=0"]
        common += ["--object-store-memory=100000000", "--disable-usage-stats"]
        role = ["--head", f"--port={_PORT}", "--include-dashboard=false"]
        apart, hidden = ["unshare", "--mount", "--uts"], ""
        if name != "head":
            role = [f"--address={self.address}"]
            hidden = " ".join(str(Path(each.__file__).parent) for each in (cpsc_core, orchestrator))
            apart += ["--pid", "--fork", "--mount-proc"]
        self._processes[name] = subprocess.Popen(
            [
                *("ip", "netns", "exec", self._namespace(name), *apart, "--propagation", "private"),
                *("sh", "-c", _START, "sh", name, *_RAY, "start", *common, *role),
            ],
            env={**self._environment, "HIDDEN": hidden},
            stdout=(self.shared / f"{name}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def command(self, arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
        """The product's command, started on the head."""
        return subprocess.Popen(
            [
                *("nsenter", "--target", str(self._processes["head"].pid), "--net", "--mount", "--uts"),
                *("env", "HOME=/tmp/home", sys.executable, "-c", "from orchestrator.cli import main; main()"),
                *map(str, arguments),
            ],
            env=self._environment,
            cwd=self.shared,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, name: str) -> None:
        """A machine loses its power: its cable first, so that nobody hears its last words."""
        _run("ip", "-n", self._namespace("hub"), "link", "set", f"to-{name}", "down")
        for pid in self._pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._processes.pop(name).wait(timeout=30)

    def _plug(self, name: str) -> None:
        namespace, hub = self._namespace(name), self._namespace("hub")
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", hub, "link", "add", f"to-{name}", "type", "veth", "peer", "eth0", "netns", namespace)
        _run("ip", "-n", hub, "link", "set", f"to-{name}", "master", "bridge", "up")
        _run("ip", "-n", namespace, "address", "add", f"{self.ip(name)}/24", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _pids(self, name: str) -> list[int]:
        return [int(pid) for pid in _run("ip", "netns", "pids", self._namespace(name)).split()]

    def open(self) -> None:
        """Make the bridge."""
        hub = self._namespace("hub")
        _run("ip", "netns", "add", hub)
        _run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", hub, "link", "set", "bridge", "up")

    def close(self) -> None:
        """Kill whatever runs on the machines, and unplug them all."""
        names = [each.split()[0] for each in _run("ip", "netns", "list").splitlines()]
        for name in (
            each.removeprefix(f"{self._prefix}-") for each in names if each.startswith(self._prefix)
        ):
            for pid in self._pids(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait(timeout=30)
        for name in names:
            if name.startswith(self._prefix):
                _run("ip", "netns", "delete", name)


@contextmanager
def machines() -> Iterator[Machines]:
    """A bridge without machines yet; they and their shared folder are gone at the end."""
    shared = Path(tempfile.mkdtemp(prefix="cpsc-machines-", dir="/var/tmp"))
    token = shared / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "OMP_NUM_THREADS", "PYTHONPATH")
        if name in os.environ
    }
    environment = {**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "COLUMNS": "120"}
    made = Machines(shared, f"cpsc{os.getpid()}", environment)
    made.open()
    try:
        yield made
    finally:
        made.close()
        time.sleep(0.2)
        shutil.rmtree(shared, ignore_errors=True)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
