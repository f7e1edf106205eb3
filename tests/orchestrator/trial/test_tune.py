"""Trials on a real Ray, which is started once; what dies is killed for real."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cpsc_core.attempt import read_lines
from cpsc_core.settings import TeacherSettings
from orchestrator.controller.controller import Controller
from orchestrator.errors import FencedError
from orchestrator.store.folder import read_json
from orchestrator.store.records import EndClass, TrialState
from tests.support.ray_sweep import (
    as_if_undisturbed,
    meanwhile,
    run_on_ray,
    signal_rank,
    tiny_experiment,
    trials,
)

LONG = "train.epochs=30"


def pids(root: Path) -> list[int]:
    """The rank process of every attempt, in the order the attempts began."""
    found = [read_json(path) or {} for path in sorted(root.glob("trials/*/attempts/*/process.json"))]
    return [each["pid"] for each in found]


def test_ranks_stay_warm_from_trial_to_trial_and_drivers_never_load_torch(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    drivers: dict[int, bool] = {}

    def look() -> bool:
        for process in psutil.process_iter():
            try:
                if "TrialDriver" in (process.name() + " ".join(process.cmdline())):
                    drivers[process.pid] = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
            except (psutil.Error, OSError):
                continue
        return len(drivers) >= 2

    with meanwhile(look):
        run_on_ray(tiny_experiment("budget.trials=8"), tmp_path / "toy", teacher, scratch)

    assert len(trials(tmp_path / "toy")) == 8
    assert len(set(pids(tmp_path / "toy"))) == 2
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(tmp_path / "toy")[-2:])
    assert not set(pids(tmp_path / "toy")) & drivers.keys()
    assert not any(drivers.values())


def test_a_killed_rank_costs_an_attempt_and_the_trial_ends_as_if_nothing_had_happened(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=2", LONG)
    with meanwhile(signal_rank(tmp_path / "toy", signal.SIGKILL)):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    ends = [end for trial in trials(tmp_path / "toy") for end in trial.ends.values()]
    assert sorted(end.ended for end in ends) == ["complete", "complete", "infrastructure"]
    assert any("a rank died" in (end.cause or "") for end in ends)
    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(tmp_path / "toy"))


def test_a_killed_driver_costs_an_attempt_and_nothing_else(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", LONG)

    def kill_driver() -> bool:
        if not list((tmp_path / "toy").glob("trials/*/attempts/1/checkpoints/epoch-*")):
            return False
        rank = psutil.Process(pids(tmp_path / "toy")[0])
        raylet = rank.parent()
        assert raylet is not None
        drivers = [
            each for each in raylet.children() if "TrialDriver" in each.name() + " ".join(each.cmdline())
        ]
        for driver in drivers:
            os.kill(driver.pid, signal.SIGKILL)
        return bool(drivers)

    with meanwhile(kill_driver):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    assert trial.ends[1].ended is EndClass.INFRASTRUCTURE
    assert trial.ends[1].cause == "the trial's driver process died"
    assert trial.ends[1].lines
    assert as_if_undisturbed(trial, tmp_path / "whole")


def test_a_rank_that_hangs_is_killed_and_its_trial_goes_on(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", LONG, "hang.seconds=2")
    with meanwhile(signal_rank(tmp_path / "toy", signal.SIGSTOP, after_epoch=2)):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    assert trial.ends[1].ended is EndClass.HANG
    assert "hang.seconds is 2" in (trial.ends[1].cause or "")
    assert as_if_undisturbed(trial, tmp_path / "whole")


def test_a_rank_that_is_sent_sigterm_leaves_with_a_checkpoint_and_nothing_is_counted_or_lost(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", LONG, "retry.infrastructure=0")
    with meanwhile(signal_rank(tmp_path / "toy", signal.SIGTERM, after_epoch=3)):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    assert [end.ended for end in trial.ends.values()] == [EndClass.PREEMPTED, EndClass.COMPLETE]
    assert trial.ends[1].cause == "its process was sent SIGTERM; it saved a checkpoint"
    start = (read_json(trial.paths.attempt(2).process) or {})["start"]
    assert start["attempt"] == 1
    assert start["epoch"] == len(read_lines(trial.paths.attempt(1).metrics)) >= 3
    assert as_if_undisturbed(trial, tmp_path / "whole")


@pytest.mark.slow
def test_memory_that_runs_out_is_saved_once_and_then_explained(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    """A layer of the generator alone would take 34 GB, which the kernel refuses at once."""
    wish = ("train.batch_size=2097152", "train.generator.width=128")

    run_on_ray(tiny_experiment("budget.trials=1", *wish), tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    assert trial.result is not None
    assert [end.ended for end in trial.ends.values()] == [EndClass.OUT_OF_MEMORY] * 2
    assert len(set(pids(tmp_path / "toy"))) == 1
    detail = trial.result.detail or ""
    assert detail.startswith("memory ran out: it needs ")
    assert "instead of 2097152 would fit; computing activations twice did not save enough" in detail
    advised = int(detail.partition("about ")[2].partition(" ")[0])
    assert 0 < advised < 2097152


@pytest.mark.slow
def test_a_driver_that_is_sent_sigterm_lets_its_ranks_save_what_they_have(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", "train.epochs=100", "retry.infrastructure=0")

    def terminate() -> bool:
        if not list((tmp_path / "toy").glob("trials/*/attempts/1/checkpoints/epoch-*")):
            return False
        raylet = psutil.Process(pids(tmp_path / "toy")[0]).parent()
        assert raylet is not None
        drivers = [each for each in raylet.children() if "TrialDriver" in each.name()]
        for driver in drivers:
            driver.send_signal(signal.SIGTERM)
        return bool(drivers)

    with meanwhile(terminate):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    assert [end.ended for end in trial.ends.values()] == [EndClass.PREEMPTED, EndClass.COMPLETE]
    assert trial.ends[1].cause == "its driver was sent SIGTERM"
    assert as_if_undisturbed(trial, tmp_path / "whole")


def test_a_hang_that_python_can_still_tell_of_leaves_its_stack(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    """The trial waits for a reader of what should be a file, and will for ever."""
    config = tiny_experiment("budget.trials=1", LONG, "hang.seconds=3", "retry.hang=0")

    def block() -> bool:
        for path in (tmp_path / "toy").glob("trials/*/attempts/1/process.json"):
            if process := read_json(path):
                os.mkfifo(path.with_name(f".per_class.json.{process['pid']}.draft"))
                return True
        return False

    with meanwhile(block):
        run_on_ray(config, tmp_path / "toy", teacher, scratch)

    (trial,) = trials(tmp_path / "toy")
    for fifo in trial.paths.attempt(1).root.glob("*.draft"):
        fifo.unlink()
    assert trial.result is not None
    assert trial.result.cause == "hang"
    assert "hang.seconds is 3" in (trial.result.detail or "")
    assert trial.result.node == socket.gethostname()
    assert any("in write_json" in line for line in trial.result.stack)
    assert any("starting from the beginning" in line for line in trial.result.lines)


def test_a_diverged_trial_fails_with_that_cause_and_the_sweep_goes_on(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    space = "{student.lr: {choices: [0.01, 1.0e+30]}}"
    config = tiny_experiment("budget.trials=2", "sampler.name=grid", space=space)
    controller = run_on_ray(config, tmp_path / "toy", teacher, scratch)

    sound, diverged = trials(tmp_path / "toy")
    assert sound.state is TrialState.COMPLETE
    assert diverged.state is TrialState.FAILED
    assert diverged.result is not None
    assert diverged.result.cause == "diverged"
    assert "stopped being finite in epoch" in (diverged.result.detail or "")
    assert diverged.attempts == [1]
    assert any("DivergedError" in line for line in diverged.ends[1].lines)
    assert len(set(pids(tmp_path / "toy"))) <= 2
    assert [each.state.name for each in controller.study.study.trials] == ["COMPLETE", "PRUNED"]


def test_a_stopped_sweep_checkpoints_and_goes_on_to_the_same_end(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=3", LONG)
    stop = tmp_path / "toy" / "stop"

    def ask() -> bool:
        begun = list((tmp_path / "toy").glob("trials/*/attempts/1/checkpoints/epoch-0002"))
        if begun:
            stop.touch()
        return bool(begun)

    with meanwhile(ask):
        controller = run_on_ray(config, tmp_path / "toy", teacher, scratch)
    assert controller.state.closed == "stopped"
    assert any(trial.result is None for trial in trials(tmp_path / "toy"))
    assert all(
        end.ended in (EndClass.STOPPED, EndClass.COMPLETE)
        for each in trials(tmp_path / "toy")
        for end in each.ends.values()
    )
    stop.unlink()
    run_on_ray(config, tmp_path / "toy", teacher, scratch)

    assert all(as_if_undisturbed(trial, tmp_path / "whole") for trial in trials(tmp_path / "toy"))


@pytest.mark.parametrize(
    "when",
    [
        "hear_end",
        pytest.param("hear_line", marks=pytest.mark.slow),
        pytest.param("tick", marks=pytest.mark.slow),
    ],
)
def test_what_the_controller_raises_ends_the_sweep_at_once_and_is_raised(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Tune takes an error of the searcher or scheduler for one of the trial, and would go on."""
    calls = []

    def lose(self: Controller, *_: object) -> None:
        if when != "tick" or list((tmp_path / "toy").glob("trials/*/attempts/1/checkpoints/epoch-*")):
            calls.append(when)
            raise FencedError("taken over")

    monkeypatch.setattr(Controller, when, lose)

    with pytest.raises(FencedError, match="taken over"):
        run_on_ray(tiny_experiment("budget.trials=4"), tmp_path / "toy", teacher, scratch)

    assert len(calls) == 1
    assert all(trial.result is None for trial in trials(tmp_path / "toy"))
    for pid in pids(tmp_path / "toy"):
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
        assert not psutil.pid_exists(pid)


def test_ray_does_not_take_the_signals_that_ask_for_a_checkpoint(scratch: Path) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        assert not getattr(signal.getsignal(number), "__module__", "").startswith("ray")


def test_the_modules_of_controller_and_driver_import_without_torch() -> None:
    script = (
        "import sys, orchestrator.sweep.commands, orchestrator.trial.tune, orchestrator.trial.driver, "
        "orchestrator.trial.teacher, orchestrator.mirror\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}

    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


@pytest.fixture(autouse=True)
def no_file_is_left_in_the_sweep_that_is_not_the_sweeps_own(tmp_path: Path) -> object:
    yield
    assert not list(tmp_path.rglob("*.draft"))
    assert not list(tmp_path.rglob("*.pkl"))
