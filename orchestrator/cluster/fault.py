"""Why a machine cannot run a sweep's trials: its answers, compared with what is true of the controller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.capacity import Node
from orchestrator.errors import OrchestratorError, UnreachableError, UsageError
from orchestrator.report.wording import size

__all__ = ["Fault", "find_faults", "refusal"]

_EQUAL = ("ray", "torch")
_LEAST_FREE = 200 * 1024**2

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One reason."""

    finding: str
    """What is true."""
    advice: str
    """What to do about it."""
    code: int = 2
    """Exit code of a command that cannot do without the machine: 3 for what cannot be reached."""

    def __str__(self) -> str:
        return f"{self.finding}; {self.advice}"


def find_faults(ours: Answer, theirs: Answer, node: Node) -> list[Fault]:
    """What speaks against a machine, by the answers of `orchestrator.cluster.probe.look` here and there.

    Ours also has `product`, the version of this program, and `interface`, the one that ranks are to use.
    """
    return [*_software(ours, theirs), *_places(theirs), *_network(ours, theirs), *_devices(theirs, node)]


def refusal(faults: Mapping[Node, list[Fault]]) -> OrchestratorError | None:
    """One error that names every machine that cannot run trials; None if all can."""
    failed = {node: found for node, found in faults.items() if found}
    if not failed:
        return None
    lines = [f"\n  {node}: {fault}" for node, found in failed.items() for fault in found]
    kind = (
        UnreachableError if any(each.code == 3 for found in failed.values() for each in found) else UsageError
    )
    return kind(
        f"{len(failed)} of {len(faults)} node(s) cannot run trials:{''.join(lines)}\n"
        "see to them, or take them out of the cluster, and give the command again"
    )


def _software(ours: Answer, theirs: Answer) -> Iterator[Fault]:
    if ours["python"] != theirs["python"]:
        finding = f"has Python {theirs['python']}, here is {ours['python']}"
        yield Fault(finding=finding, advice="start its raylet from an environment with the same Python")
    if missing := [name for name, version in theirs["versions"].items() if version is None]:
        finding = f"lacks {', '.join(missing)}"
        yield Fault(finding=finding, advice=f"`pip install cpsc-orchestrate=={ours['product']}` there")
    for name in _EQUAL:
        here, there = ours["versions"][name], theirs["versions"][name]
        if there is not None and _public(here) != _public(there):
            finding = f"has {name} {there}, here is {here}"
            yield Fault(finding=finding, advice=f"install the same {name} on both")
    for name, version in ours["plugins"].items():
        if (there := theirs["plugins"].get(name)) != version:
            finding = f"has {name} {there or 'not at all'}, here is {version}"
            yield Fault(finding=finding, advice="install the same there: experiments may name what it adds")
    if ours["code"] != theirs["code"]:
        finding = (
            "has none of our code" if theirs["code"] is None else f"runs other code, of {theirs['code_from']}"
        )
        yield Fault(
            finding=finding, advice="install the same version there, or `resume`, which sends the code"
        )


def _places(theirs: Answer) -> Iterator[Fault]:
    if (visit := theirs["storage"]) is not None and "error" in visit:
        finding = f"does not share the storage with this machine: {visit['error']}"
        yield Fault(finding=finding, advice="mount the same folder at the same path there, writable", code=3)
    if theirs["bucket"] is not None:
        advice = "give it the network and the credentials, in the environment of its raylet or as its role"
        yield Fault(finding=f"cannot use the storage: {theirs['bucket']}", advice=advice, code=3)
    for folder, error in theirs["folders"].items():
        if error is not None:
            yield Fault(finding=f"cannot read {folder}: {error}", advice="mount it there, or copy it", code=3)
    if theirs["cache"] is not None:
        finding = f"cannot keep the files it is sent: {theirs['cache']}"
        yield Fault(
            finding=finding, advice="set XDG_CACHE_HOME there to a folder that can be written", code=3
        )
    for place, free in theirs["free"].items():
        if free < _LEAST_FREE:
            yield Fault(finding=f"has {size(free)} free in {place}", advice="make room there", code=3)


def _network(ours: Answer, theirs: Answer) -> Iterator[Fault]:
    wanted, there = ours["interface"], theirs["interfaces"]
    if wanted is not None and wanted not in there:
        finding = f"has no network interface {wanted}, only {', '.join(there)}"
        yield Fault(finding=finding, advice="change resources.interface")


def _devices(theirs: Answer, node: Node) -> Iterator[Fault]:
    if (gpus := theirs["gpus"]) is None:
        return
    if "error" in gpus:
        finding = f"cannot compute on its GPUs: {gpus['error']}"
        yield Fault(finding=finding, advice="see whether nvidia-smi works there, and torch fits the driver")
    elif gpus["count"] < node.gpus:
        built = f"torch is built for CUDA {gpus['cuda']}" if gpus["cuda"] else "torch is built for the CPU"
        finding = f"has {node.gpus:g} GPU(s) for Ray, but torch sees {gpus['count']}: {built}"
        yield Fault(finding=finding, advice="install the build of torch that fits the driver there")


def _public(version: str) -> str:
    """Without what it was built for: a controller without a GPU has another build."""
    return version.partition("+")[0]
