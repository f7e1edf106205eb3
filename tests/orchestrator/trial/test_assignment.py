import json
from dataclasses import replace

from orchestrator.cluster.shape import Shape
from orchestrator.trial.assignment import Assignment
from orchestrator.trial.parcel import Parcel


def test_an_assignment_survives_the_way_through_tune() -> None:
    assignment = Assignment(
        name="abc",
        attempt=2,
        folder="/sweep/trials/abc",
        settings={"train": {"epochs": 3}},
        shape=Shape(workers=2, cpus=4, gpus=0.0),
        stop_file="/sweep/stop",
        hang_seconds=120.0,
        nodes=("ab", "cd"),
        parcels={"weights": Parcel(name="teacher.pth", sha256="0" * 64, ticket="80")},
    )

    assert Assignment.from_config(json.loads(json.dumps(assignment.to_config()))) == assignment


def test_a_trial_is_placed_on_the_machines_that_may_run_it_and_packed_or_spread_as_wished() -> None:
    from orchestrator.trial.driver import TrialDriver

    shape = Shape(workers=2, cpus=1, gpus=0.0, placement="spread")
    assignment = Assignment(
        name="abc",
        attempt=1,
        folder="/x",
        settings={},
        shape=shape,
        stop_file="/stop",
        hang_seconds=1.0,
        nodes=("ab", "cd"),
    )

    wish = TrialDriver.default_resource_request(assignment.to_config())
    anywhere = TrialDriver.default_resource_request(replace(assignment, nodes=()).to_config())

    assert wish.strategy == "SPREAD"
    selectors = wish._bound.kwargs["bundle_label_selector"]
    assert selectors == [{"ray.io/node-id": "in(ab,cd)"}] * 2
    assert "bundle_label_selector" not in anywhere._bound.kwargs
