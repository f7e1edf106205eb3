"""Sweeps on a cluster whose machines are wanted back, die or join on the way, or are needed two at a time."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orchestrator
from cpsc_core.attempt import read_lines
from cpsc_core.settings import TrialSettings
from orchestrator.store.folder import read_json
from orchestrator.store.records import EndClass
from tests.support.command import EXPERIMENT, command, start, wait_for
from tests.support.ranks import finish_on_ranks
from tests.support.ray_sweep import as_if_undisturbed, found, trials
from tests.support.trials import digest
from tests.support.two_nodes import TwoNodes, two_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PLAIN = (
    "confirm.top=0",
    "pruner.name=none",
    "retry.infrastructure=1",
    "resources.start_seconds=600",
    "hang.seconds=600",
)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    with two_nodes(tmp_path) as nodes:
        for name, value in nodes.environment.items():
            monkeypatch.setenv(name, value)
        yield nodes


def arguments(nodes: TwoNodes, folder: Path, *fields: str) -> list[str]:
    path = folder / "tiny.yaml"
    path.write_text(EXPERIMENT)
    overrides = [part for field in (*PLAIN, *fields) for part in ("--set", field)]
    return ["sweep", str(path), "--storage", str(folder), "--address", nodes.address, *overrides]


def wait_until_train(root: Path, count: int = 2) -> None:
    def enough() -> bool:
        files = root.glob("trials/*/attempts/1/metrics.jsonl")
        return sum(len(read_lines(path)) >= 2 for path in files) >= count

    wait_for(enough, seconds=240)


def processes(root: Path) -> set[int]:
    """The processes that ran trials."""
    found = (read_json(path) or {} for path in root.glob("trials/*/attempts/*/process.json"))
    return {pid for each in found for pid in each["pids"]}


def test_a_trial_on_a_machine_that_is_wanted_back_leaves_with_a_checkpoint_and_counts_as_no_failure(
    nodes: TwoNodes, tmp_path: Path, keep_teacher: Callable[[Path], None]
) -> None:
    keep_teacher(tmp_path)
    fields = ("budget.trials=2", "train.epochs=150", "retry.infrastructure=0")
    process = start(*arguments(nodes, tmp_path, *fields))
    root = tmp_path / "tiny"
    wait_until_train(root)
    nodes.drain()
    out, error = process.communicate(timeout=1200)

    assert process.returncode == 0, (out, error)
    stayed, left = sorted(trials(root), key=lambda trial: len(trial.ends))
    assert [end.ended for end in stayed.ends.values()] == [EndClass.COMPLETE]
    assert [end.ended for end in left.ends.values()] == [EndClass.PREEMPTED, EndClass.COMPLETE]
    assert "is drained" in (left.ends[1].cause or "")
    began = read_json(left.paths.attempt(2).process) or {}
    assert began["start"]["epoch"] == len(read_lines(left.paths.attempt(1).metrics))
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in (stayed, left))


def test_a_trial_on_a_machine_that_dies_goes_on_from_its_checkpoint_on_another(
    nodes: TwoNodes, tmp_path: Path, keep_teacher: Callable[[Path], None]
) -> None:
    keep_teacher(tmp_path)
    process = start(*arguments(nodes, tmp_path, "budget.trials=2", "train.epochs=150"))
    root = tmp_path / "tiny"
    wait_until_train(root)
    nodes.kill()
    nodes.add()
    out, error = process.communicate(timeout=1200)

    assert process.returncode == 0, (out, error)
    stayed, moved = sorted(trials(root), key=lambda trial: len(trial.ends))
    assert [end.ended for end in stayed.ends.values()] == [EndClass.COMPLETE]
    assert [end.ended for end in moved.ends.values()] == [EndClass.INFRASTRUCTURE, EndClass.COMPLETE]
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in (stayed, moved))


def test_a_trial_takes_two_machines_if_it_may_and_is_refused_if_it_fits_on_none(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    refused = command(*arguments(nodes, tmp_path, "name=wide", "resources.cpus_per_worker=2"), code=2)
    command(*arguments(nodes, tmp_path, "budget.trials=1", "resources.workers=2"))

    assert "missing: 1 CPU(s) on one node" in refused
    assert trials(tmp_path / "wide") == []
    (trial,) = trials(tmp_path / "tiny")
    settings = TrialSettings.from_dict(trial.record.settings)
    assert found(trial) == digest(finish_on_ranks(2, settings, tmp_path / "whole"))


def test_a_machine_that_joins_on_the_way_runs_trials_once_it_has_passed_and_others_do_not(
    nodes: TwoNodes,
    tmp_path: Path,
    keep_teacher: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_teacher(tmp_path)
    monkeypatch.chdir(tmp_path)  # Ray has machines look for code first where a command was started
    nodes.leave()
    process = start(*arguments(nodes, tmp_path, "budget.trials=3", "train.epochs=150"))
    root = tmp_path / "tiny"
    wait_until_train(root, count=1)
    other_code = tmp_path / "other"
    shutil.copytree(Path(orchestrator.__file__).parent, other_code / "orchestrator")
    (other_code / "orchestrator" / "opened.py").write_text("raise SystemExit\n")
    nodes.add(PYTHONPATH=str(other_code))
    nodes.add(PYTHONPATH="")
    out, error = process.communicate(timeout=1200)

    assert process.returncode == 0, (out, error)
    told = out + error
    assert f"joined and cannot run trials: runs other code, of {other_code}/orchestrator/__init__.py" in told
    assert "joined; room for 2 trial(s)" in told
    assert len(processes(root)) >= 2
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(root))


def test_when_the_head_is_lost_the_command_says_so_and_resume_goes_on_under_another_one(
    nodes: TwoNodes, tmp_path: Path, keep_teacher: Callable[[Path], None]
) -> None:
    keep_teacher(tmp_path)
    process = start(*arguments(nodes, tmp_path, "budget.trials=2", "train.epochs=150"))
    root = tmp_path / "tiny"
    wait_until_train(root)
    nodes.behead()
    began = time.monotonic()
    out, error = process.communicate(timeout=120)
    seconds = time.monotonic() - began

    assert process.returncode == 3, (out, error)
    assert f"head at {nodes.address} does not answer any more" in error
    assert f"cpsc-orchestrate resume {root}" in error
    assert seconds < 65
    unfinished = [trial for trial in trials(root) if trial.result is None]
    assert unfinished
    with two_nodes(tmp_path / "next") as others, pytest.MonkeyPatch.context() as patch:
        for name, value in others.environment.items():
            patch.setenv(name, value)
        resumed = start("resume", root, "--address", others.address)
        out, error = resumed.communicate(timeout=600)
        assert resumed.returncode == 0, (out, error)
    for trial in trials(root):
        assert [end.ended for end in trial.ends.values()][-1] is EndClass.COMPLETE
        assert as_if_undisturbed(trial, tmp_path / "whole")
    moved = [read_json(trial.paths.attempt(2).process) or {} for trial in unfinished]
    assert all(each["start"]["epoch"] >= 2 for each in moved)
