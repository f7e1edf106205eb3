import json

from orchestrator.trial.assignment import Assignment, Shape


def test_an_assignment_survives_the_way_through_tune() -> None:
    assignment = Assignment(
        name="abc",
        attempt=2,
        folder="/sweep/trials/abc",
        settings={"train": {"epochs": 3}},
        shape=Shape(workers=2, cpus=4, gpus=0.0),
        stop_file="/sweep/stop",
        hang_seconds=120.0,
    )

    assert Assignment.from_config(json.loads(json.dumps(assignment.to_config()))) == assignment


def test_the_driver_costs_nothing_and_each_rank_has_a_bundle() -> None:
    assert Shape(workers=2, cpus=4, gpus=0.0).bundles() == [{}, {"CPU": 4.0}, {"CPU": 4.0}]
    assert Shape(workers=1, cpus=4, gpus=0.5).bundles() == [{}, {"CPU": 4.0, "GPU": 0.5}]
