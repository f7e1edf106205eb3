"""Machines that join and leave, on a cluster of our imagination."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cluster import fleet as module
from orchestrator.cluster.capacity import Cluster, Node, Room
from orchestrator.cluster.fault import Fault
from orchestrator.cluster.fleet import Fleet
from orchestrator.cluster.shape import Shape
from orchestrator.errors import UsageError

ONE = Shape(workers=1, cpus=2, gpus=0.0)
WRONG = Fault(finding="has torch 1", advice="install the same")


def node(name: str, cpus: float = 4.0) -> Node:
    return Node(host=name, id=name, cpus=cpus, gpus=0.0)


@dataclass
class Imagined:
    """A cluster with its clock, and the preflight of its machines."""

    living: list[Node] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    now: float = 0.0

    def ask(self, asked: Node) -> str:
        self.asked.append(asked.id)
        return asked.id

    def judge(self, asked: Node, answer: Any) -> list[Fault]:
        return self.faults.get(asked.id, [])

    def examine(self, nodes: Any) -> dict[Node, list[Fault]]:
        return {each: self.judge(each, self.ask(each)) for each in nodes}

    def wait(self, answers: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return [each for each in answers if each not in self.slow], []

    def fleet(self) -> Fleet:
        fleet = Fleet(ONE, self, self.said.append, clock=lambda: self.now)  # type: ignore[arg-type]
        fleet.admit(Cluster(nodes=tuple(self.living), is_joined=True))
        return fleet

    def after(self, fleet: Fleet, seconds: float = 1.0) -> Room:
        self.now += seconds
        return fleet.room()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Imagined:
    imagined = Imagined(living=[node("a"), node("b", cpus=2.0), node("tiny", cpus=1.0)])
    monkeypatch.setattr(module, "living_nodes", lambda: tuple(imagined.living))
    monkeypatch.setattr(module, "ray", SimpleNamespace(wait=imagined.wait))
    return imagined


def test_machines_with_room_are_looked_at_and_run_trials(cluster: Imagined) -> None:
    room = cluster.fleet().room()

    assert cluster.asked == ["a", "b"]
    assert room == Room(slots=3, nodes=("a", "b"))


def test_a_machine_that_is_unfit_at_the_start_is_refused_by_name(cluster: Imagined) -> None:
    cluster.faults["b"] = [WRONG]

    with pytest.raises(UsageError, match="1 of 2 node\\(s\\) cannot run trials:\n  b: has torch 1"):
        cluster.fleet()


def test_a_machine_that_joins_is_used_once_it_has_answered(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    cluster.slow.add("c")
    cluster.living.append(node("c"))

    assert cluster.after(fleet) == Room(slots=3, nodes=("a", "b"))
    cluster.slow.clear()
    assert cluster.after(fleet) == Room(slots=5, nodes=("a", "b", "c"))
    assert cluster.asked == ["a", "b", "c"]
    assert cluster.said[-1] == "node c joined; room for 5 trial(s)"


def test_a_machine_that_joins_unfit_is_told_once_and_never_used(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    cluster.faults["c"] = [WRONG]
    cluster.living.append(node("c"))

    rooms = {cluster.after(fleet) for _ in range(5)}

    assert rooms == {Room(slots=3, nodes=("a", "b"))}
    assert cluster.said[-1] == "node c joined and cannot run trials: has torch 1; install the same"
    assert len(cluster.said) == 2


def test_a_machine_that_joins_without_room_for_a_rank_is_not_even_asked(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    cluster.living.append(node("small", cpus=1.0))

    assert cluster.after(fleet).slots == 3
    assert "small" not in cluster.asked


def test_a_machine_that_leaves_takes_its_room_and_changes_no_list(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    del cluster.living[0]

    assert cluster.after(fleet) == Room(slots=1, nodes=("a", "b"))
    assert cluster.said[-1] == "node a is gone or about to go; room for 1 trial(s)"
    cluster.after(fleet)
    assert sum("gone" in line for line in cluster.said) == 1


def test_when_all_are_gone_there_is_no_room_until_others_come(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    cluster.living.clear()
    assert cluster.after(fleet).slots == 0
    assert not fleet.has_living(("a", "b"))

    cluster.living.append(node("c"))
    assert cluster.after(fleet) == Room(slots=2, nodes=("a", "b", "c"))
    assert fleet.has_living(("a", "c"))


def test_a_machine_that_leaves_before_it_answered_is_forgotten(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    cluster.slow.add("c")
    cluster.living.append(node("c"))
    cluster.after(fleet)
    cluster.living.pop()
    cluster.slow.clear()

    assert cluster.after(fleet) == Room(slots=3, nodes=("a", "b"))
    assert not any("joined" in line for line in cluster.said)


def test_the_cluster_is_not_looked_at_more_than_twice_a_second(cluster: Imagined) -> None:
    fleet = cluster.fleet()
    fleet.room()
    cluster.living.clear()

    assert cluster.after(fleet, 0.1).slots == 3
    assert cluster.after(fleet, 0.5).slots == 0
