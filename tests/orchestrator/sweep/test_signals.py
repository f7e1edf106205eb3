"""Ctrl-C on a real terminal, SIGTERM to every process of a job, and a controller that was paused too long."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cpsc_core.attempt import read_lines
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import TrialState
from tests.support.command import EXPERIMENT, command, document, start, wait_for
from tests.support.ray_sweep import as_if_undisturbed
from tests.support.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = ("train.epochs=150", "budget.trials=2", "confirm.top=0", "pruner.name=none")


def trials(root: Path) -> list[TrialFolder]:
    return SweepFolder(SweepPaths(root)).trials()


def of_ray(controller: int) -> list[int]:
    """Processes of the private Ray that a controller started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(f"cpsc-ray-{controller}-" in word for word in process.cmdline()):
                found.append(process.pid)
    return found


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT)
    return [
        "sweep",
        str(path),
        "--storage",
        str(tmp_path),
        *(part for each in LONG for part in ("--set", each)),
    ]


def wait_until_training(root: Path) -> None:
    def begun() -> bool:
        return any(len(read_lines(path)) > 2 for path in root.glob("trials/*/attempts/1/metrics.jsonl"))

    wait_for(begun, seconds=240)


def nothing_was_lost(trial: TrialFolder) -> bool:
    """Whether the newest checkpoint is not older than the last line."""
    newest = trial.paths.attempt(trial.attempts[-1])
    points = newest.checkpoint_points()
    return bool(points) and points[-1].epoch == len(read_lines(newest.metrics))


def test_one_ctrl_c_lets_every_trial_save_what_it_has(arguments: list[str], tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    with Terminal(*arguments) as terminal:
        wait_until_training(root)
        terminal.press_ctrl_c()
        code, _ = terminal.wait(seconds=120)

    assert code == 130, terminal.text
    wait_for(lambda: not of_ray(terminal.process.pid), seconds=60)
    assert "stopping: running trials checkpoint and end; press Ctrl-C again to stop now" in terminal.text
    last = terminal.text.strip().splitlines()[-1]
    assert last.endswith(f"go on with `cpsc-orchestrate resume {root}`")
    begun = [trial for trial in trials(root) if trial.attempts]
    assert begun
    assert all(nothing_was_lost(trial) for trial in begun)
    assert not list(root.rglob("*.draft"))


def test_a_second_ctrl_c_stops_within_two_seconds_and_the_sweep_goes_on_all_the_same(
    arguments: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    with Terminal(*arguments) as terminal:
        wait_until_training(root)
        terminal.press_ctrl_c()
        wait_for(lambda: "press Ctrl-C again" in terminal.text, seconds=30)
        pressed = terminal.press_ctrl_c()
        code, ended = terminal.wait(seconds=30)

    assert code == 130, terminal.text
    assert ended - pressed < 2.0
    wait_for(lambda: not of_ray(terminal.process.pid), seconds=60)
    assert terminal.text.strip().splitlines()[-1] == f"go on with `cpsc-orchestrate resume {root}`"
    assert document("status", "tiny", "--storage", tmp_path)["state"] == "interrupted"
    command("resume", "tiny", "--storage", tmp_path)
    assert all(trial.state is TrialState.COMPLETE for trial in trials(root))
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(root))


def test_sigterm_to_the_controller_checkpoints_and_ends_with_143(
    arguments: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    process = start(*arguments)
    wait_until_training(root)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)

    assert process.returncode == 143, error
    wait_for(lambda: not of_ray(process.pid), seconds=60)
    assert f"cpsc-orchestrate resume {root}" in error.splitlines()[-1]
    assert all(nothing_was_lost(trial) for trial in trials(root) if trial.attempts)


def test_sigterm_to_every_process_of_the_job_loses_no_more_than_since_the_last_checkpoint(
    arguments: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    process = start(*arguments)
    wait_until_training(root)
    for each in [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]:
        if psutil.pid_exists(each):
            os.kill(each, signal.SIGTERM)
    _, error = process.communicate(timeout=120)

    assert process.returncode == 143, error
    wait_for(lambda: not of_ray(process.pid), seconds=60)
    assert f"cpsc-orchestrate resume {root}" in error.splitlines()[-1]
    assert all(trial.result is None for trial in trials(root))
    assert all(trial.paths.attempt(1).checkpoint_points() for trial in trials(root) if trial.attempts)


def records(sweep: Path) -> dict[Path, str]:
    """What controllers write; a rank of the paused one may still save a checkpoint in its own attempt."""
    names = ("trial.json", "result.json", "end.json")
    files = [sweep / "manifest.json", *(path for path in sweep.rglob("*.json") if path.name in names)]
    return {path: path.read_text() for path in files}


def test_a_controller_that_was_paused_and_taken_over_writes_nothing_more_and_says_so(
    arguments: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    paused = start(*arguments)
    wait_until_training(root)
    os.kill(paused.pid, signal.SIGSTOP)
    command("resume", "tiny", "--storage", tmp_path, "--takeover")
    before = records(root)
    os.kill(paused.pid, signal.SIGCONT)
    _, error = paused.communicate(timeout=120)

    assert paused.returncode == 5, error
    wait_for(lambda: not of_ray(paused.pid), seconds=60)
    assert "this controller has lost tiny to" in error.splitlines()[-1]
    assert records(root) == before
    assert all(trial.result is not None and trial.result.generation == 2 for trial in trials(root))
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(root))
