"""The mirror against a server in memory: what is shown, what is spared, and what a crash leaves behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpsc_core.attempt import write_json
from orchestrator.errors import ConfigError, TrackingError, UnreachableError
from orchestrator.mirror.ledger import look
from orchestrator.mirror.overview import Overview
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.tracker import RunStatus
from orchestrator.store.folder import TrialFolder
from orchestrator.store.lease import Lease
from orchestrator.store.records import EndClass, TrialState
from tests.support.mirroring import (
    CREATED,
    MemoryServer,
    RecordedSweep,
    assert_same_but_for_the_clock,
    unreachable,
)

URI = "http://tracking.example:5000"


class CrashError(BaseException):
    """The process died here."""


@pytest.fixture
def sweep(tmp_path: Path) -> RecordedSweep:
    return RecordedSweep(tmp_path)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def mirror(sweep: RecordedSweep, server: MemoryServer, uri: str = URI) -> Mirror:
    """A mirror as a process that has just started makes it."""
    return Mirror(uri, sweep.paths, connect=server.open)


def by_name(server: MemoryServer) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in server.shown()}


def test_every_kind_of_trial_is_shown_below_the_sweep(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()

    with Lease.acquire(sweep.paths.lease):
        mirror(sweep, server).sync()

    runs = by_name(server)
    assert {name: run["status"] for name, run in runs.items()} == {
        "digits": RunStatus.RUNNING,
        "trial-000": RunStatus.FINISHED,
        "trial-001": RunStatus.KILLED,
        "trial-002": RunStatus.FAILED,
        "trial-003": RunStatus.RUNNING,
        "trial-004": RunStatus.SCHEDULED,
        "confirm-000-seed-2": RunStatus.RUNNING,
    }
    assert all(
        run["tags"]["mlflow.parentRunId"] == "digits" for name, run in runs.items() if name != "digits"
    )
    assert runs["trial-002"]["tags"]["cpsc.cause"] == "hang"
    assert runs["trial-003"]["tags"]["cpsc.attempts"] == "2"


def test_points_and_images_are_those_of_the_folders(sweep: RecordedSweep, server: MemoryServer) -> None:
    trial = sweep.finished(5, epochs=3)

    mirror(sweep, server).sync()

    lines = [json.loads(line) for line in trial.attempt(1).metrics.read_text().splitlines()]
    moments = {line["epoch"]: round((CREATED + 50.0 + line["seconds"]) * 1000) for line in lines}
    by_line = {
        (key, line["epoch"], moments[line["epoch"]], repr(float(value)))
        for line in lines
        for key, value in line.items()
    }
    result = json.loads(trial.result.read_text())
    summary = {
        ("objective", 3, moments[3], repr(result["objective"])),
        ("val_accuracy_best", 3, moments[3], "0.5"),
        ("teacher_accuracy", 3, moments[3], "0.97"),
    }
    run = by_name(server)["trial-005"]
    assert set(run["points"]) == by_line | summary
    assert len(run["points"]) == len(by_line | summary)
    assert run["images"] == [(1, moments[1]), (3, moments[3])]
    assert (run["started"], run["ended"]) == (round((CREATED + 50) * 1000), round((CREATED + 5001) * 1000))


def test_a_second_synchronisation_sends_nothing(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()
    same = mirror(sweep, server)
    first = same.sync()
    server.requests.clear()

    again, restarted = same.sync(), mirror(sweep, server).sync()

    assert first.runs == 7
    assert again == restarted == Synced()
    assert set(server.requests) == {"find"}


def test_counts_are_those_of_what_arrived(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()

    synced = mirror(sweep, server).sync()

    runs = server.shown()
    assert synced.points == sum(len(run["points"]) for run in runs)
    assert synced.images == sum(len(run["images"]) for run in runs)
    assert synced.statuses == sum(run["status"] is not RunStatus.RUNNING for run in runs)


def test_a_mirrored_trial_is_not_read_again(
    sweep: RecordedSweep, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.example()
    same = mirror(sweep, server)
    same.sync()
    read: list[str] = []
    real = TrialFolder.read
    monkeypatch.setattr("orchestrator.mirror.sync.sweep_overview", lambda *_, **__: Overview())
    monkeypatch.setattr(TrialFolder, "read", lambda paths: (read.append(paths.root.name), real(paths))[1])

    same.sync()
    mirror(sweep, server).sync()
    fresh = sweep.finished(9)
    same.sync()

    assert read == [fresh.root.name]


def test_while_a_sweep_runs_only_trials_without_a_mirrored_result_are_looked_at(
    sweep: RecordedSweep, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        "orchestrator.mirror.sync.look", lambda paths: (looked.append(paths.root.name), look(paths))[1]
    )
    same = mirror(sweep, server)
    with Lease.acquire(sweep.paths.lease):
        finished, running = sweep.finished(0), sweep.trial(1)
        sweep.attempt(running)
        same.sync()
        looked.clear()

        same.sync()

        assert looked == [running.root.name]

        resumed = mirror(sweep, server)
        resumed.sync()
        looked.clear()

        resumed.sync()

        assert looked == [running.root.name]

    looked.clear()
    same.close()
    assert set(looked) == {finished.root.name, running.root.name}


def test_a_run_that_another_process_began_is_not_begun_again(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    one, other = mirror(sweep, server), mirror(sweep, server)
    one.sync()
    other.sync()
    sweep.finished(0)

    synced = one.sync(), other.sync()

    assert [each.runs for each in synced] == [1, 0]
    assert [run["name"] for run in server.shown()] == ["digits", "trial-000"]


def test_a_lost_ledger_doubles_nothing(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()
    mirror(sweep, server).sync()
    before = server.shown()
    for ledger in sweep.paths.root.rglob("mirror.json"):
        ledger.unlink()

    synced = mirror(sweep, server).sync()

    assert server.shown() == before
    assert (synced.runs, synced.images, synced.statuses) == (0, 0, 0)


def test_a_lost_server_is_filled_again_with_the_same_runs(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()
    mirror(sweep, server).sync()
    other = MemoryServer()

    mirror(sweep, other).sync()

    assert other.shown() == server.shown()


def test_runs_lost_under_a_living_mirror_are_made_again(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.finished(0)
    trial = sweep.trial(1)
    sweep.attempt(trial)
    same = mirror(sweep, server)
    same.sync()
    server.runs.clear()
    sweep.epochs(trial, 1)

    with pytest.raises(TrackingError):
        same.sync()
    same.sync()

    fresh = MemoryServer()
    mirror(sweep, fresh).sync()
    assert server.shown() == fresh.shown()


def test_a_binned_run_is_taken_out_of_the_bin(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()
    mirror(sweep, server).sync()
    before = server.shown()
    for run in server.runs:
        run.held.deleted = True

    mirror(sweep, server).sync()

    assert server.shown() == before


def test_a_run_in_the_bin_stays_there_if_there_is_another(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.finished(0)
    mirror(sweep, server).sync()
    for run in server.runs:
        run.held.deleted = True
    copies = [
        replace(run, held=replace(run.held, deleted=False, run_id=f"z{i}"))
        for i, run in enumerate(server.runs)
    ]
    server.runs.extend(copies)

    mirror(sweep, server).sync()

    assert [run.held.deleted for run in server.runs] == [True, True, False, False]


def test_what_is_learnt_later_about_the_origin_reaches_every_run(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    sweep.finished(0)
    same = mirror(sweep, server)
    same.sync()
    sweep.note(teacher={"accuracy": 0.98})

    same.sync()

    assert {run["tags"]["cpsc.teacher_accuracy"] for run in server.shown()} == {"0.98"}


def test_a_status_that_was_tampered_with_is_put_right(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.example()
    mirror(sweep, server).sync()
    before = server.shown()
    for run in server.runs:
        run.held.status = RunStatus.RUNNING

    mirror(sweep, server).sync()

    assert server.shown() == before


def test_sweeps_of_one_name_do_not_mix(tmp_path: Path, server: MemoryServer) -> None:
    one, two = RecordedSweep(tmp_path / "a"), RecordedSweep(tmp_path / "b")
    two.note(created=CREATED + 1.0)
    one.finished(0)
    two.finished(0)

    mirror(one, server).sync()
    synced = mirror(two, server).sync()

    assert synced.runs == 2


def test_a_resumed_trial_keeps_its_run_and_its_points(sweep: RecordedSweep, server: MemoryServer) -> None:
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, 1, 2, 3)
    same = mirror(sweep, server)
    same.sync()
    before = by_name(server)["trial-000"]["points"]
    sweep.end_attempt(trial, EndClass.INFRASTRUCTURE)
    sweep.attempt(trial, copied=1)
    sweep.epochs(trial, 2, 3, pace=9.0)

    same.sync()
    restarted = mirror(sweep, server).sync()
    assert by_name(server)["trial-000"]["points"] == before
    sweep.epochs(trial, 4, pace=9.0)
    same.sync()

    after = by_name(server)["trial-000"]["points"]
    assert restarted == Synced()
    assert {point for point in after if point[1] <= 3} == set(before)
    assert {point[1] for point in after} == {1, 2, 3, 4}


def test_a_crash_before_the_ledger_and_a_resume_from_an_earlier_epoch_double_no_point(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, 1, 2, 3)
    mirror(sweep, server).sync()
    trial.mirror.unlink()
    sweep.end_attempt(trial, EndClass.PREEMPTED)
    sweep.attempt(trial, copied=1)
    sweep.epochs(trial, 2, 3, 4, pace=7.0)

    mirror(sweep, server).sync()

    points = by_name(server)["trial-000"]["points"]
    assert len({point[:2] for point in points}) == len(points)


def test_a_reopened_trial_runs_again_and_forgets_its_cause(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    trial = sweep.finished(2, TrialState.FAILED, epochs=1)
    same = mirror(sweep, server)
    same.sync()
    with Lease.acquire(sweep.paths.lease):
        sweep.reopen(trial)
        sweep.attempt(trial, copied=1)
        same.sync()
        assert by_name(server)["trial-002"]["status"] is RunStatus.RUNNING
        sweep.epochs(trial, 2, 3, 4)
        sweep.finish(trial, TrialState.COMPLETE)

        same.sync()

    run = by_name(server)["trial-002"]
    assert run["status"] is RunStatus.FINISHED
    assert "cpsc.cause" not in run["tags"]
    assert "cpsc.detail" not in run["tags"]


@pytest.mark.parametrize(
    ("finished", "owned", "status"),
    [
        (None, True, RunStatus.RUNNING),
        (None, False, RunStatus.KILLED),
        ("stopped", False, RunStatus.KILLED),
        ("interrupted", False, RunStatus.KILLED),
        ("complete", False, RunStatus.FINISHED),
        ("complete", True, RunStatus.RUNNING),
    ],
)
def test_the_sweeps_own_run_says_how_the_sweep_stands(
    sweep: RecordedSweep, server: MemoryServer, finished: str | None, owned: bool, status: RunStatus
) -> None:
    sweep.finished(0)
    sweep.note(finished=finished)
    if owned:
        with Lease.acquire(sweep.paths.lease):
            mirror(sweep, server).sync()
    else:
        mirror(sweep, server).sync()

    assert by_name(server)["digits"]["status"] is status


def test_after_a_killed_controller_nothing_is_shown_as_running(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    sweep.example()
    with Lease.acquire(sweep.paths.lease):
        mirror(sweep, server).sync()

    mirror(sweep, server).sync()

    assert RunStatus.RUNNING not in {run["status"] for run in server.shown()}


def test_closing_ends_the_sweep_while_its_lease_is_held(sweep: RecordedSweep, server: MemoryServer) -> None:
    sweep.finished(0)
    with Lease.acquire(sweep.paths.lease):
        same = mirror(sweep, server)
        same.sync()

        same.close()
        left = same.backlog()

    run = by_name(server)["digits"]
    assert (run["status"], run["ended"]) == (RunStatus.FINISHED, round((CREATED + 5001) * 1000))
    assert left == 0


def test_closing_a_stopped_sweep_leaves_its_trials_waiting(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    sweep.example()
    with Lease.acquire(sweep.paths.lease):
        same = mirror(sweep, server)
        same.sync()

        same.close()

    runs = by_name(server)
    assert runs["digits"]["status"] is RunStatus.KILLED
    assert runs["trial-003"]["status"] is RunStatus.SCHEDULED


def test_what_lies_among_the_trials_without_a_record_is_no_trial(
    sweep: RecordedSweep, server: MemoryServer
) -> None:
    sweep.finished(0)
    (sweep.paths.trials / ".DS_Store").write_bytes(b"Bud1")
    (sweep.paths.trials / "abc" / "attempts").mkdir(parents=True)  # killed before its record was there
    same = mirror(sweep, server)

    same.sync()

    assert same.backlog() == 0
    assert len(server.shown()) == 2


def test_the_backlog_is_what_the_server_lacks(sweep: RecordedSweep, server: MemoryServer) -> None:
    trial = sweep.finished(0)
    same = mirror(sweep, server)
    assert same.backlog() == 1
    same.sync()
    assert same.backlog() == mirror(sweep, server).backlog() == 0
    sweep.finished(1)
    server.before = unreachable

    with pytest.raises(UnreachableError):
        same.sync()

    assert same.backlog() == 1
    assert trial.mirror.exists()


def test_what_is_refused_does_not_hold_up_the_rest(sweep: RecordedSweep, server: MemoryServer) -> None:
    spoilt = sweep.finished(0)
    spoilt.attempt(1).sample(1).write_bytes(b"no image")
    sweep.finished(1)

    with pytest.raises(TrackingError, match=r"epoch-0001\.png is not an image"):
        mirror(sweep, server).sync()

    runs = by_name(server)
    assert {run["status"] for name, run in runs.items() if name != "digits"} == {RunStatus.FINISHED}
    assert runs["trial-001"]["images"]


def test_two_servers_are_noted_side_by_side(sweep: RecordedSweep, server: MemoryServer) -> None:
    trial, other = sweep.finished(0), MemoryServer()

    mirror(sweep, server).sync()
    mirror(sweep, other, "sqlite:///elsewhere.db?timeout=5").sync()

    assert json.loads(trial.mirror.read_text()).keys() == {URI, "sqlite:///elsewhere.db"}
    assert mirror(sweep, server).sync() == Synced()


def test_credentials_in_the_uri_are_refused(sweep: RecordedSweep, server: MemoryServer) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refusal:
        mirror(sweep, server, "https://me:hunter2@tracking.example")

    assert "hunter2" not in str(refusal.value)


def changes(sweep: RecordedSweep) -> list[Callable[[], object]]:
    """A sweep's life in steps that each leave something to mirror."""
    trials: list[Any] = []
    return [
        lambda: trials.append(sweep.trial(0)),
        lambda: (sweep.attempt(trials[0]), sweep.epochs(trials[0], 1, 2)),
        lambda: (sweep.epochs(trials[0], 3), sweep.finished(1, TrialState.PRUNED, epochs=2)),
        lambda: (
            sweep.end_attempt(trials[0], EndClass.PREEMPTED),
            sweep.attempt(trials[0], copied=2),
            sweep.epochs(trials[0], 3, 4, pace=3.0),
        ),
        lambda: sweep.finish(trials[0], TrialState.COMPLETE),
    ]


def crash_at(server: MemoryServer, number: int, *, answered: bool) -> None:
    """Make one request the last of its process: lost on the way there, or carried out and not answered."""
    count = 0

    def hook(_what: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            server.before = server.after = lambda _: None
            raise CrashError

    if answered:
        server.after = hook
    else:
        server.before = hook


@pytest.mark.parametrize("restarted", [True, False], ids=["new process", "same process"])
@pytest.mark.parametrize("answered", [True, False], ids=["answer lost", "request lost"])
def test_a_crash_at_any_request_doubles_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: bool, restarted: bool
) -> None:
    monkeypatch.setattr("orchestrator.mirror.reconcile._ENTITIES_OF_A_REQUEST", 50)
    whole, number = False, 0
    while not whole:
        number += 1
        sweep, server = RecordedSweep(tmp_path / f"{answered}{restarted}{number}"), MemoryServer()
        crash_at(server, number, answered=answered)
        current, fresh, whole = mirror(sweep, server), MemoryServer(), True
        with Lease.acquire(sweep.paths.lease):
            for change in changes(sweep):
                change()
                try:
                    current.sync()
                except CrashError:
                    whole = False
                    current = mirror(sweep, server) if restarted else current
            current.sync()
            mirror(sweep, fresh).sync()

        assert_same_but_for_the_clock(server.shown(), fresh.shown())
    assert number > 25


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_an_unreliable_server_ends_up_as_a_reliable_one(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("orchestrator.mirror.reconcile._ENTITIES_OF_A_REQUEST", 50)
    chance = random.Random(seed)
    sweep, server = RecordedSweep(tmp_path_factory.mktemp("sweep")), MemoryServer()

    def fail_often(_what: str) -> None:
        if chance.random() < 0.15:
            raise UnreachableError("the line is bad")

    server.before = server.after = fail_often
    current, fresh = mirror(sweep, server), MemoryServer()
    with Lease.acquire(sweep.paths.lease):
        for change in changes(sweep):
            change()
            for _ in range(chance.randrange(3)):
                try:
                    current.sync()
                except UnreachableError:
                    current = mirror(sweep, server) if chance.random() < 0.3 else current
        server.before = server.after = lambda _: None
        current.sync()
        mirror(sweep, fresh).sync()

    assert_same_but_for_the_clock(server.shown(), fresh.shown())


def test_a_trial_keeps_the_versions_it_ended_with(sweep: RecordedSweep, server: MemoryServer) -> None:
    runs = [
        {"generation": 1, "versions": {"torch": "2.14.1"}},
        {"generation": 2, "versions": {"torch": "9.9"}},
    ]
    sweep.note(versions={"torch": "9.9"}, runs=runs)
    old, new = sweep.finished(0), sweep.finished(1)
    result = json.loads(new.result.read_text())
    write_json(new.result, result | {"generation": 2})

    mirror(sweep, server).sync()

    versions = {run["tags"].get("cpsc.trial"): run["tags"]["cpsc.version.torch"] for run in server.shown()}
    assert versions == {None: "9.9", old.root.name: "2.14.1", new.root.name: "9.9"}
