import pytest

from orchestrator.cluster.capacity import Cluster, Node
from orchestrator.cluster.shape import Shape
from orchestrator.errors import UsageError


def cluster(*nodes: tuple[float, float]) -> Cluster:
    return Cluster(
        nodes=tuple(Node(host=f"n{i}", cpus=cpus, gpus=gpus) for i, (cpus, gpus) in enumerate(nodes))
    )


@pytest.mark.parametrize(
    ("nodes", "shape", "slots"),
    [
        ([(2, 0)], Shape(workers=1, cpus=1, gpus=0), 2),
        ([(2, 0)], Shape(workers=2, cpus=1, gpus=0), 1),
        ([(8, 0)], Shape(workers=1, cpus=3, gpus=0), 2),
        ([(3, 0), (3, 0)], Shape(workers=1, cpus=2, gpus=0), 2),
        ([(3, 0), (3, 0)], Shape(workers=2, cpus=2, gpus=0), 1),
        ([(16, 4)], Shape(workers=1, cpus=1, gpus=1), 4),
        ([(16, 1)], Shape(workers=1, cpus=1, gpus=0.5), 2),
        ([(2, 4)], Shape(workers=1, cpus=1, gpus=1), 2),
        ([(16, 10)], Shape(workers=1, cpus=1, gpus=0.1), 16),
        ([(16, 2)], Shape(workers=1, cpus=1, gpus=0.4), 4),
        ([(16, 2)], Shape(workers=1, cpus=1, gpus=0.6), 2),
        ([(16, 3)], Shape(workers=1, cpus=1, gpus=2), 1),
    ],
)
def test_slots_follow_from_what_fits_on_each_machine(
    nodes: list[tuple[float, float]], shape: Shape, slots: int
) -> None:
    assert cluster(*nodes).slots(shape) == slots


@pytest.mark.parametrize(
    ("nodes", "shape", "missing"),
    [
        ([(2, 0), (4, 0)], Shape(workers=1, cpus=8, gpus=0), "4 CPU(s) on one node"),
        ([(2, 1), (4, 1)], Shape(workers=1, cpus=1, gpus=2), "1 GPU(s) on one node"),
        ([(2, 0)], Shape(workers=2, cpus=4, gpus=1), "2 CPU(s) and 1 GPU(s) on one node"),
        ([(2, 0), (2, 0)], Shape(workers=5, cpus=1, gpus=0), "room for 1 rank(s)"),
        ([(8, 0), (1, 4)], Shape(workers=1, cpus=4, gpus=1), "a node that has both at once"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_and_what_is_missing_is_named(
    nodes: list[tuple[float, float]], shape: Shape, missing: str
) -> None:
    with pytest.raises(UsageError) as refused:
        cluster(*nodes).slots(shape)

    assert f"needs {shape.workers} rank(s) of {shape.cpus} CPU(s) and {shape.gpus:g} GPU(s)" in str(
        refused.value
    )
    assert f"; missing: {missing}; lower resources.workers" in str(refused.value)


def test_a_cluster_without_nodes_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="no node at all; add one"):
        cluster().slots(Shape(workers=1, cpus=1, gpus=0))


def test_nodes_without_room_for_a_rank_are_not_among_those_that_fit() -> None:
    fitting = cluster((1, 0), (4, 0), (4, 1)).fitting(Shape(workers=2, cpus=2, gpus=0))

    assert [node.host for node in fitting] == ["n1", "n2"]
