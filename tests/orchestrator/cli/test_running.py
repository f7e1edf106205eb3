from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.errors import OwnedError
from orchestrator.store.lease import Lease
from orchestrator.store.records import TrialState
from orchestrator.sweep import commands, teacher_stage
from orchestrator.sweep.run import Outcome
from tests.support.folders import MadeSweep

FILE = """
name: digits
data: {name: digits}
teacher: {arch: resnet20}
student: {arch: resnet8}
train: {epochs: 4}
search: {loss.ikd: {low: 0.1, high: 20}}
storage: runs
"""


def run(*arguments: str) -> Result:
    from orchestrator.cli import main

    return CliRunner().invoke(main, arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path / "runs")
    sweep.trial(0, [0.5])
    return sweep


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch, sweep: MadeSweep) -> Callable[..., list[SimpleNamespace]]:
    """Let run_sweep and resume_sweep end in one way; returns what they are called with."""

    def end(exit_code: int = 0, message: str | None = None) -> list[SimpleNamespace]:
        calls: list[SimpleNamespace] = []

        def carry_out(subject: Any, *, progress: Any, **options: Any) -> Outcome:
            progress.say("starting")
            calls.append(SimpleNamespace(subject=subject, **options))
            return Outcome(exit_code=exit_code, sweep=sweep.paths, message=message)

        monkeypatch.setattr(commands, "run_sweep", carry_out)
        monkeypatch.setattr(commands, "resume_sweep", carry_out)
        return calls

    return end


def test_a_sweep_runs_where_its_file_says(file: Path, ending: Any) -> None:
    calls = ending()

    result = run("sweep", str(file), "--set", "budget.trials=3")

    assert result.exit_code == 0
    assert calls[0].subject.config.budget.trials == 3
    assert calls[0].storage == file.parent / "runs"
    assert calls[0].address is None


def test_options_beat_the_file(file: Path, ending: Any, tmp_path: Path) -> None:
    calls = ending()

    run("sweep", str(file), "--storage", str(tmp_path / "else"), "--address", "10.0.0.1:6379")

    assert calls[0].storage == tmp_path / "else"
    assert calls[0].address == "10.0.0.1:6379"


def test_a_sweep_closes_with_what_was_found(file: Path, ending: Any, sweep: MadeSweep) -> None:
    ending()

    result = run("sweep", str(file))

    lines = result.stdout.splitlines()
    assert lines[0].endswith(" starting")
    assert lines[1].startswith("digits: last val_accuracy; teacher resnet20")
    assert lines[-1] == f"browse   cpsc-orchestrate ui --storage {sweep.paths.storage.root}"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (1, "error: some trials failed; next: cpsc-orchestrate resume {root} --failed"),
        (2, "error: the sweep could not go on; next: cpsc-orchestrate status {root}"),
        (3, "error: the cluster or the storage cannot be reached; next: cpsc-orchestrate doctor"),
        (4, "error: the budget was spent before anything finished; next: cpsc-orchestrate status {root}"),
        (5, "error: another controller owns the sweep; next: cpsc-orchestrate status {root}"),
        (130, "interrupted; next: cpsc-orchestrate resume {root}"),
        (143, "terminated; next: cpsc-orchestrate resume {root}"),
    ],
)
@pytest.mark.parametrize("command", ["sweep", "resume"])
def test_every_ending_but_a_good_one_has_a_last_line(
    file: Path, ending: Any, sweep: MadeSweep, command: str, code: int, line: str
) -> None:
    ending(code)

    result = run(command, str(file if command == "sweep" else sweep.paths.root))

    assert result.exit_code == code
    assert result.stderr == line.format(root=sweep.paths.root) + "\n"


def test_the_sweeps_own_words_come_last(file: Path, ending: Any) -> None:
    ending(130, "interrupted with 2 trials under way; go on with `cpsc-orchestrate resume digits`")

    result = run("sweep", str(file))

    assert (
        result.stderr == "interrupted with 2 trials under way; go on with `cpsc-orchestrate resume digits`\n"
    )


def test_a_stop_that_was_asked_for_is_told_and_is_no_error(file: Path, ending: Any) -> None:
    ending(0, "stopped with 1 trial(s) under way")

    result = run("sweep", str(file))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "stopped with 1 trial(s) under way"


def test_resume_passes_on_what_is_to_be_tried_again(ending: Any, sweep: MadeSweep) -> None:
    calls = ending()

    retry = ["--trial", "abc", "--trial", "def", "--cause", "hang", "--cause", "out_of_memory", "--failed"]
    more = ["--add-trials", "5", "--set", "budget.hours=8", "--takeover", "--address", "x:1"]
    run("resume", str(sweep.paths.root), *retry, *more)

    assert calls == [
        SimpleNamespace(
            subject=sweep.folder,
            failed=True,
            trials=("abc", "def"),
            causes=("hang", "out_of_memory"),
            add_trials=5,
            overrides=("budget.hours=8",),
            takeover=True,
            address="x:1",
        )
    ]


def test_resume_alone_tries_nothing_again(ending: Any, sweep: MadeSweep) -> None:
    calls = ending()

    run("resume", "digits", "--storage", str(sweep.storage))

    assert vars(calls[0]) | {"subject": None} == {
        "subject": None,
        "failed": False,
        "trials": (),
        "causes": (),
        "add_trials": 0,
        "overrides": (),
        "takeover": False,
        "address": None,
    }


def test_a_mistake_in_the_file_starts_nothing(file: Path, ending: Any) -> None:
    calls = ending()
    file.write_text(FILE.replace("epochs", "epocs"))

    result = run("sweep", str(file))

    assert (result.exit_code, calls) == (2, [])
    assert "epocs" in result.stderr
    assert result.stderr.endswith(f"next: cpsc-orchestrate validate {file}\n")


def test_a_sweep_that_somebody_else_owns_names_the_owner(
    file: Path, monkeypatch: pytest.MonkeyPatch, sweep: MadeSweep
) -> None:
    def owned(*_: Any, **__: Any) -> Outcome:
        with Lease.acquire(sweep.paths.lease):
            Lease.acquire(sweep.paths.lease)
        raise AssertionError

    monkeypatch.setattr(commands, "run_sweep", owned)

    result = run("sweep", str(file))

    assert result.exit_code == OwnedError.exit_code
    assert "is owned by process" in result.stderr
    assert "--takeover" in result.stderr.splitlines()[-1]


def test_stop_asks_a_living_controller(sweep: MadeSweep) -> None:
    with Lease.acquire(sweep.paths.lease):
        result = run("stop", "digits", "--storage", str(sweep.storage))

    assert result.exit_code == 0
    assert sweep.paths.stop.exists()
    assert result.stdout.startswith("digits will stop after its next checkpoints; its controller is process ")


def test_a_sweep_that_nobody_runs_needs_no_stop(sweep: MadeSweep) -> None:
    result = run("stop", "digits", "--storage", str(sweep.storage))

    assert (result.exit_code, result.stdout) == (0, "digits is not running\n")
    assert not sweep.paths.stop.exists()


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def make(experiment: Any, *, storage: Path, progress: Any) -> dict[str, Any]:
        progress.say("training")
        asked.append((experiment.config.teacher.arch, storage))
        return {"key": "abc", "arch": "resnet20", "accuracy": 0.97}

    monkeypatch.setattr(teacher_stage, "make_teacher", make)
    return asked


def test_a_teacher_is_kept_in_the_storage_folder(file: Path, teacher: list[Any]) -> None:
    result = run("teacher", str(file))

    assert teacher == [("resnet20", file.parent / "runs")]
    assert result.stdout.splitlines()[1:] == ["key       abc", "arch      resnet20", "accuracy  0.97"]


def test_a_teachers_card_in_json_stands_alone_on_stdout(file: Path, teacher: list[Any]) -> None:
    result = run("teacher", str(file), "--json")

    assert json.loads(result.stdout) == {"key": "abc", "arch": "resnet20", "accuracy": 0.97}
    assert "training" in result.stderr


def test_what_was_interrupted_is_not_told_as_running(tmp_path: Path, ending: Any, sweep: MadeSweep) -> None:
    sweep.paths.trial("000000000000").result.unlink()
    sweep.trial(1, [], state=TrialState.FAILED, cause="error")
    sweep.note(finished="interrupted")
    ending(130)

    result = run("resume", str(sweep.paths.root))

    assert "digits is interrupted: 1 failed, 1 pending" in result.stdout
