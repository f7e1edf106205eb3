from orchestrator.cluster.shape import Shape


def test_the_driver_costs_nothing_and_each_rank_has_a_bundle() -> None:
    assert Shape(workers=2, cpus=4, gpus=0.0).bundles() == [{}, {"CPU": 4.0}, {"CPU": 4.0}]
    assert Shape(workers=1, cpus=4, gpus=0.5).bundles() == [{}, {"CPU": 4.0, "GPU": 0.5}]
