"""Whether the machines of a cluster can run a sweep's trials, found out on each of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpsc_core.attempt import make_folder
from orchestrator.cluster import probe
from orchestrator.cluster.capacity import Node
from orchestrator.cluster.fault import Fault, find_faults
from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress, Storage

__all__ = ["CODE", "NEEDED", "Answer", "Preflight", "nodes_with_other_code"]

CODE = ("cpsc_core", "orchestrator")
"""The packages that are ours."""

NEEDED = (
    "annotated-types",
    "numpy",
    "packaging",
    "pandas",
    "pillow",
    "pyarrow",
    "ray",
    "safetensors",
    "scikit-learn",
    "torch",
    "torchvision",
)
"""Distributions without which no rank or driver starts."""

_SECONDS = 90.0
_SECONDS_WITH_GPUS = 270.0

Answer = ray.ObjectRef[dict[str, Any]]

cloudpickle.register_pickle_by_value(probe)  # type: ignore[no-untyped-call]


class Preflight:
    """A context manager that asks machines, those that join later too, until its block ends."""

    def __init__(
        self,
        storage: Storage | None,
        folders: Sequence[str] = (),
        *,
        gpus: bool = False,
        interface: str | None = None,
    ) -> None:
        """`storage` is what all must share (None: nothing is written), `folders` what all must read.

        `gpus` says whether trials compute on GPUs, `interface` names the network interface they need, if any.
        """
        self._storage = storage if isinstance(storage, Path) else None
        self._bucket = storage if isinstance(storage, BucketAddress) else None
        self._folders = folders
        self._seconds = _SECONDS_WITH_GPUS if gpus else _SECONDS
        self._gpus = gpus
        self._interface = interface
        self._text = secrets.token_hex(16)
        self._nonce: Path | None = None
        self._ours: dict[str, Any] = {}
        self._look = _question(probe.look)

    def __enter__(self) -> Self:
        if self._storage is not None:
            self._nonce = self._storage / f"preflight-{secrets.token_hex(8)}"
            try:
                make_folder(self._storage)
                self._nonce.write_text(self._text)
            except OSError as error:
                raise UnreachableError(
                    f"cannot write to {self._storage}: {error}; choose another storage"
                ) from error
        ours: dict[str, Any] = {"nonce": None, "folders": [], "gpus": False, "signature": "", "bucket": None}
        self._ours = probe.look(self._wish() | ours) | {
            "product": version("cpsc-orchestrate"),
            "interface": self._interface,
        }
        return self

    def __exit__(self, *_: object) -> None:
        if self._nonce is not None:
            for path in self._nonce.parent.glob(f"{self._nonce.name}*"):
                path.unlink(missing_ok=True)

    def ask(self, node: Node) -> Answer:
        """Ask a machine; returns the answer to come."""
        wish = self._wish() | {"signature": node.id, "gpus": self._gpus and node.gpus > 0}
        return _send(self._look, wish, node)

    def judge(self, node: Node, answer: Answer) -> list[Fault]:
        """What speaks against a machine that was asked; waits for its answer."""
        try:
            theirs = ray.get(answer, timeout=self._seconds)
        except GetTimeoutError:
            finding = f"did not answer within {self._seconds:.0f} s"
            return [Fault(finding=finding, advice="see whether its raylet and its disks are alive", code=3)]
        except RayError as error:
            finding = f"runs nothing: {_last_line(error)}"
            return [
                Fault(finding=finding, advice="see Ray's logs there, in its session's logs folder", code=3)
            ]
        self._read_visit(node, theirs)
        return find_faults(self._ours, theirs, node)

    def examine(self, nodes: Iterable[Node]) -> dict[Node, list[Fault]]:
        """Ask machines, all at once; what speaks against each of them."""
        answers = {node: self.ask(node) for node in nodes}
        return {node: self.judge(node, answer) for node, answer in answers.items()}

    def _wish(self) -> dict[str, Any]:
        return {
            "distributions": list(NEEDED),
            "packages": list(CODE),
            "nonce": None if self._nonce is None else str(self._nonce),
            "folders": list(self._folders),
            "bucket": None if self._bucket is None else str(self._bucket),
        }

    def _read_visit(self, node: Node, theirs: dict[str, Any]) -> None:
        """What the machine wrote must be seen here too, or one of us writes into the void."""
        if self._nonce is None or "error" in theirs["storage"]:
            return
        path = self._nonce.with_name(f"{self._nonce.name}.{node.id}")
        try:
            is_seen = path.read_text() == f"{node.id} {self._text}"
        except OSError:
            is_seen = False
        if not is_seen or theirs["storage"]["read"] != self._text:
            theirs["storage"] = {"error": f"what it writes to {path.parent} is not seen here"}


def nodes_with_other_code(nodes: Iterable[Node]) -> list[Node]:
    """The machines whose own copy of our code is not this one; those that do not answer are among them."""
    ours = probe.digest_code(list(CODE))
    question = _question(probe.digest_code)
    answers = {node: _send(question, list(CODE), node) for node in nodes}
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=_SECONDS)
    return [node for node, answer in answers.items() if _heard(answer) != ours]


def _heard(answer: Answer) -> Any:
    try:
        return ray.get(answer, timeout=0)
    except (GetTimeoutError, RayError):
        return None


def _question(function: Any) -> Any:
    """A function as a task; made once, for it is sent anew each time it is made."""
    return ray.remote(num_cpus=0, max_retries=0)(function)


def _send(question: Any, argument: Any, node: Node) -> Answer:
    there = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
    answer: Answer = question.options(scheduling_strategy=there).remote(argument)
    return answer


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
