"""A head and two workers, each with an address, name, disk and home of its own, and without our code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpsc_core.attempt import read_lines
from cpsc_core.settings import TrialSettings
from orchestrator.store.records import EndClass
from tests.support.command import EXPERIMENT, wait_for
from tests.support.namespaces import Machines, machines, why_not
from tests.support.ranks import finish_on_ranks
from tests.support.ray_sweep import found, trials
from tests.support.trials import digest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_not() is not None, reason=f"no machines can be made: {why_not()}"),
]

PAIR = "resources={workers: 2, placement: spread, start_seconds: 600}"


@pytest.fixture
def cluster(keep_teacher: Callable[[Path], None]) -> Iterator[Machines]:
    with machines() as made:
        keep_teacher(made.shared / "runs")
        made.start("head", cpus=0)
        wait_for(lambda: "Ray runtime started" in log(made, "head"))
        for name in ("worker-a", "worker-b"):
            made.start(name, cpus=2)
        for name in ("worker-a", "worker-b"):
            wait_for(lambda name=name: "Ray runtime started" in log(made, name))  # type: ignore[misc]
        yield made


def log(made: Machines, name: str) -> str:
    return (made.shared / f"{name}.log").read_text(errors="replace")


def arguments(made: Machines, *fields: str) -> list[str | Path]:
    path = made.shared / "tiny.yaml"
    path.write_text(EXPERIMENT)
    plain = ("confirm.top=0", "pruner.name=none", "retry.infrastructure=2", "hang.seconds=600", *fields)
    overrides = [part for field in plain for part in ("--set", field)]
    storage = ["--storage", made.shared / "runs", "--address", made.address]
    return ["sweep", path, *storage, *overrides]


def test_gangs_span_two_machines_and_go_on_when_one_of_them_loses_its_power(cluster: Machines) -> None:
    sweep = cluster.shared / "runs" / "tiny"
    process = cluster.command(arguments(cluster, "budget.trials=2", "train.epochs=60", PAIR))

    def begun() -> bool:
        assert process.poll() is None, process.communicate()
        files = list(sweep.glob("trials/*/attempts/1/metrics.jsonl"))
        return len(files) == 2 and all(len(read_lines(path)) >= 3 for path in files)

    wait_for(begun, seconds=600)
    cluster.kill("worker-b")
    out, error = process.communicate(timeout=900)

    assert process.returncode == 0, (out, error)
    told = out + error
    assert "sending the code to the cluster: 2 node(s)" in told
    assert f"node {cluster.ip('worker-b')} (worker-b) is gone or about to go; room for 1 trial(s)" in told
    for trial in trials(sweep):
        assert [end.ended for end in trial.ends.values()] == [EndClass.INFRASTRUCTURE, EndClass.COMPLETE]
        settings = TrialSettings.from_dict(trial.record.settings)
        assert found(trial) == digest(finish_on_ranks(2, settings, cluster.shared / "whole" / trial.name))


def test_machines_that_do_not_see_the_storage_are_refused_by_name(cluster: Machines) -> None:
    path = cluster.shared / "tiny.yaml"
    path.write_text(EXPERIMENT)
    process = cluster.command(["sweep", path, "--storage", "/tmp/runs", "--address", cluster.address])

    out, error = process.communicate(timeout=200)

    assert process.returncode == 3, (out, error)
    assert "2 of 2 node(s) cannot run trials" in error
    for name in ("worker-a", "worker-b"):
        assert f"{cluster.ip(name)} ({name}): does not share the storage with this machine" in error
