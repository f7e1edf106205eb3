"""The machine below a real Ray, asked as those of a cluster are."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.capacity import Node
from orchestrator.cluster.fleet import living_nodes
from orchestrator.cluster.preflight import Preflight, nodes_with_other_code
from orchestrator.errors import UnreachableError


@pytest.fixture
def node(scratch: Path) -> Node:
    (node,) = living_nodes()
    return node


def told(preflight: Preflight, node: Node) -> str:
    return "\n".join(map(str, preflight.examine([node])[node]))


def test_the_machine_of_the_controller_itself_is_fit_and_nothing_stays_in_the_storage(
    node: Node, tmp_path: Path
) -> None:
    with Preflight(tmp_path / "runs", [str(tmp_path)]) as preflight:
        assert told(preflight, node) == ""
        assert len(list((tmp_path / "runs").iterdir())) == 2

    assert list((tmp_path / "runs").iterdir()) == []


def test_the_machine_of_the_controller_itself_has_its_code(node: Node) -> None:
    assert nodes_with_other_code([node]) == []


def test_without_a_storage_nothing_is_written(node: Node, tmp_path: Path) -> None:
    with Preflight(None, [str(tmp_path / "birds")]) as preflight:
        said = told(preflight, node)

    assert said.startswith(f"cannot read {tmp_path}/birds: ")


def test_a_machine_that_reads_something_else_at_the_same_path_has_another_storage(
    node: Node, tmp_path: Path
) -> None:
    with Preflight(tmp_path) as preflight:
        (nonce,) = tmp_path.iterdir()
        nonce.write_text("of another sweep")
        said = told(preflight, node)

    assert f"does not share the storage with this machine: what it writes to {tmp_path} is not seen" in said


def test_a_machine_that_is_gone_is_told_as_such(node: Node, tmp_path: Path) -> None:
    gone = replace(node, id="ab" * 28)

    with Preflight(tmp_path) as preflight:
        assert told(preflight, gone).startswith("runs nothing: ")
    assert nodes_with_other_code([gone]) == [gone]


def test_a_storage_that_cannot_be_written_is_unreachable(scratch: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot write to /proc/runs"), Preflight(Path("/proc/runs")):
        pass
