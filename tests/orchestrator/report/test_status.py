from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.objective import Objective
from orchestrator.report.leaderboard import order
from orchestrator.report.status import headline, render_status, standing, status_document
from orchestrator.store.folder import TrialFolder
from orchestrator.store.lease import Lease
from orchestrator.store.records import EndClass, TrialState
from tests.support.folders import MadeSweep


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[MadeSweep]:
    """A sweep with a living controller."""
    sweep = MadeSweep(tmp_path, manifest={"finished": None})
    with Lease.acquire(sweep.paths.lease):
        yield sweep


def states(sweep: MadeSweep) -> dict[int, str]:
    return {entry["number"]: entry["state"] for entry in status_document(sweep.folder)["trials"]}


def test_an_owned_sweep_runs_and_counts_every_trial_once(owned: MadeSweep) -> None:
    owned.trial(0, [0.5])
    owned.trial(1, [0.4], state=TrialState.PRUNED, detail="epoch 1 is a rung")
    owned.trial(2, [], state=TrialState.FAILED, cause="hang", detail="no step in 120 s")
    owned.trial(3, [0.3, 0.35], state=None)
    owned.trial(4, [0.3], state=None, ended=EndClass.HANG)
    owned.trial(5, state=None, started=False)

    document = status_document(owned.folder)

    assert set(document) == {"sweep", "state", "counts", "best", "trials"}
    assert document["state"] == "running"
    assert document["counts"] == {"running": 1, "complete": 1, "pruned": 1, "failed": 1, "pending": 2}
    assert states(owned) == dict(enumerate(["complete", "pruned", "failed", "running", "pending", "pending"]))
    assert json.loads(json.dumps(document)) == document


def test_a_trial_is_shown_where_it_stands(owned: MadeSweep) -> None:
    name = owned.trial(0, [0.3, 0.35], state=None, epochs=9)

    (entry,) = status_document(owned.folder)["trials"]

    assert entry == {
        "trial": name,
        "number": 0,
        "stage": "search",
        "state": "running",
        "epoch": 2,
        "epochs": 9,
        "objective": 0.35,
        "attempt": 1,
        "cause": None,
        "detail": None,
        "node": None,
        "stack": [],
        "lines": [],
    }


def test_a_trial_that_waits_says_what_went_wrong_before(owned: MadeSweep) -> None:
    owned.trial(0, [0.3], state=None, ended=EndClass.OUT_OF_MEMORY, detail="killed by the kernel")

    (entry,) = status_document(owned.folder)["trials"]

    assert (entry["state"], entry["cause"]) == ("pending", "out_of_memory")
    assert entry["detail"] == "killed by the kernel"


def test_a_sweep_that_was_asked_to_stop_is_stopping(owned: MadeSweep) -> None:
    owned.paths.stop.touch()

    assert status_document(owned.folder)["state"] == "stopping"


@pytest.mark.parametrize("finished", ["complete", "stopped", "interrupted"])
def test_a_sweep_without_a_controller_is_what_it_said_last(tmp_path: Path, finished: str) -> None:
    sweep = MadeSweep(tmp_path, manifest={"finished": finished})
    sweep.trial(0, [0.5])

    assert status_document(sweep.folder)["state"] == finished


@pytest.mark.parametrize("finished", [None, "complete"])
def test_a_dead_controllers_trials_do_not_run(tmp_path: Path, finished: str | None) -> None:
    sweep = MadeSweep(tmp_path, manifest={"finished": finished})
    sweep.trial(0, [0.5], state=None)

    document = status_document(sweep.folder)

    assert document["state"] == "interrupted"
    assert document["counts"]["running"] == 0
    assert document["counts"]["pending"] == 1


def test_the_best_is_the_search_trial_with_the_best_objective(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5])
    name = sweep.trial(1, [0.7], params={"loss.ikd": 3.0})
    sweep.trial(2, [0.9], state=TrialState.PRUNED)
    sweep.trial(None, [0.95], seed=100, params={"loss.ikd": 3.0})

    best = status_document(sweep.folder)["best"]

    assert best == {"trial": name, "number": 1, "objective": 0.7, "params": {"loss.ikd": 3.0}}


def test_an_empty_sweep_has_a_status_too(tmp_path: Path) -> None:
    document = status_document(MadeSweep(tmp_path).folder)

    assert (document["best"], document["trials"]) == (None, [])
    assert headline(document) == "digits is complete: no trials yet"


GOLDEN = """\
digits is interrupted: 1 complete, 1 failed, 1 pending; best 0.5000 by trial 0
trial  stage   state     epoch  objective  attempt  cause
    2  search  pending     2/4     0.3500        1
    0  search  complete    1/4     0.5000        1
    1  search  failed      0/4          -        1  hang: no step in 120 s
"""


def test_the_table_is_what_a_person_reads(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5])
    sweep.trial(1, [], state=TrialState.FAILED, cause="hang", detail="no step in 120 s")
    sweep.trial(2, [0.3, 0.35], state=None)

    assert rendered(sweep, limit=20) == GOLDEN.splitlines()


def fail(sweep: MadeSweep, number: int, stack: list[str], lines: list[str]) -> str:
    """A failed trial that left a stack and the last lines of its log."""
    name = sweep.trial(number, [], state=TrialState.FAILED, cause="hang", detail="no step in 120 s")
    path = sweep.paths.trial(name).result
    left = {"node": "gpu-7", "stack": stack, "lines": lines}
    path.write_text(json.dumps(json.loads(path.read_text()) | left))
    return name


def test_a_failure_is_explained_below_the_table(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    stack = ["Timeout (0:02:00)!", "Thread 0x1 (most recent call first):", '  File "a.py", line 7 in wait']
    name = fail(sweep, 0, stack, ["starting", "epoch 1", "epoch 2"])

    (entry,) = status_document(sweep.folder)["trials"]

    assert (entry["node"], entry["stack"], entry["lines"][-1]) == ("gpu-7", stack, "epoch 2")
    assert rendered(sweep, limit=9)[3:] == [
        "trial 0, attempt 1 on gpu-7: hang",
        "  Timeout (0:02:00)!",
        "  Thread 0x1 (most recent call first):",
        '  File "a.py", line 7 in wait',
        "  epoch 1",
        "  epoch 2",
        f"  log: trials/{name}/attempts/1/log.txt",
    ]


def test_of_many_failures_the_newest_are_explained(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    for number in range(9):
        fail(sweep, number, ["here"], [])

    told = [line for line in rendered(sweep, limit=20) if line.startswith("trial ") and "attempt 1" in line]

    assert [line.split(",")[0] for line in told] == ["trial 6", "trial 7", "trial 8"]


def test_an_attempt_that_failed_is_explained_while_the_trial_waits_for_the_next(owned: MadeSweep) -> None:
    name = owned.trial(0, [0.3], state=None, ended=EndClass.ERROR, detail="ValueError: no")
    path = owned.paths.trial(name).attempt(1).end
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stack": ["here"], "node": "gpu-7"}))

    (entry,) = status_document(owned.folder)["trials"]

    assert (entry["cause"], entry["stack"], entry["node"]) == ("error", ["here"], "gpu-7")


def test_a_long_table_keeps_the_unfinished_and_the_newest(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    for number in range(30):
        sweep.trial(number, [0.5], state=None if number == 3 else TrialState.COMPLETE)

    lines = rendered(sweep, limit=4)

    assert [line.split()[0] for line in lines[2:-1]] == ["3", "27", "28", "29"]
    assert lines[-1] == "and 26 more; see them all with --json"


def test_a_cause_in_brackets_is_not_taken_for_markup(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [], state=TrialState.FAILED, cause="error", detail="shape [64, 3] is not [/bold]")

    assert rendered(sweep, limit=9)[-1].endswith("error: shape [64, 3] is not [/bold]")


def rendered(sweep: MadeSweep, limit: int) -> list[str]:
    console = Console(width=110, force_terminal=False)
    with console.capture() as captured:
        console.print(render_status(status_document(sweep.folder), limit))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_standing_of_a_sweep_needs_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5])
    sweep.trial(1, [0.9], state=TrialState.PRUNED)
    document = status_document(sweep.folder)
    monkeypatch.setattr(TrialFolder, "history", property(lambda _: pytest.fail("a history was read")))

    assert {**standing(sweep.folder), "trials": document["trials"]} == document


def test_after_confirm_the_best_is_the_one_that_the_fresh_seeds_found(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.9], params={"loss.ikd": 1.0})
    confirmed = sweep.trial(1, [0.89], params={"loss.ikd": 2.0})
    sweep.trial(None, [0.805], seed=1, params={"loss.ikd": 1.0})
    sweep.trial(None, [0.885], seed=1, params={"loss.ikd": 2.0})

    document = status_document(sweep.folder)

    assert document["best"]["trial"] == confirmed == order(sweep.folder.trials(), [Objective()])[0].name
    assert "best 0.8900 by trial 1" in headline(document)
