"""Room that changes while a sweep runs, and places that Ray can never give, on a real Ray."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpsc_core.settings import TeacherSettings
from orchestrator.cluster.capacity import Room
from orchestrator.store.folder import read_json
from orchestrator.store.records import EndClass
from tests.support.ray_sweep import meanwhile, run_on_ray, tiny_experiment, trials

NOBODY = "ab" * 28


@dataclass
class Changing:
    """One trial at a time until one has ended, then as many as told."""

    root: Path
    later: int
    most: int = field(default=0, init=False)

    def room(self) -> Room:
        begun = {path.parent for path in self.root.glob("trials/*/trial.json")}
        ended = {path.parent for path in self.root.glob("trials/*/result.json")}
        self.most = max(self.most, len(begun - ended))
        return Room(slots=self.later if ended else 1)

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        return True


@dataclass
class Stranding:
    """The first attempt is to run where nobody is."""

    handed_out: int = 0

    def room(self) -> Room:
        self.handed_out += 1
        return Room(slots=1, nodes=(NOBODY,) if self.handed_out == 1 else ())

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        return NOBODY not in nodes


@dataclass
class Closed:
    """There is no room, and somebody asks for a stop."""

    stop: Path

    def room(self) -> Room:
        self.stop.touch()
        return Room(slots=0)

    def has_living(self, nodes: tuple[str, ...]) -> bool:
        return False


def pids(root: Path) -> set[int]:
    """The processes in which trials of a sweep have begun."""
    found = [read_json(path) for path in root.glob("trials/*/attempts/1/process.json")]
    return {process["pid"] for process in found if process}


def pause_the_first(root: Path) -> Callable[[], bool]:
    """An act: hold up whoever runs the second trial until somebody else has begun the third.

    A warm process is done with it before another one has started, and is given the third as well.
    """
    paused: set[int] = set()

    def act() -> bool:
        running = pids(root)
        if not paused and len(list(root.glob("trials/*/attempts/1/process.json"))) == 2:
            paused.update(running)
            for pid in paused:
                os.kill(pid, signal.SIGSTOP)
        if paused and running - paused:
            for pid in paused:
                os.kill(pid, signal.SIGCONT)
            return True
        return False

    return act


def test_more_trials_run_at_once_as_soon_as_there_is_room(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    root = tmp_path / "toy"
    places = Changing(root, later=2)

    with meanwhile(pause_the_first(root)):
        run_on_ray(tiny_experiment("budget.trials=3"), root, teacher, scratch, places)

    assert len(trials(root)) == 3
    assert places.most == 2
    assert len(pids(root)) == 2


def test_an_attempt_whose_machines_are_gone_before_it_began_is_placed_anew_and_not_counted(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    config = tiny_experiment("budget.trials=1", "retry.infrastructure=0")

    run_on_ray(config, tmp_path / "toy", teacher, scratch, Stranding())

    (trial,) = trials(tmp_path / "toy")
    assert [end.ended for end in trial.ends.values()] == [EndClass.PREEMPTED, EndClass.COMPLETE]
    assert trial.ends[1].cause == "the machines it was to run on are gone"


@pytest.mark.timeout(60)
def test_a_sweep_that_waits_for_machines_can_be_stopped(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    places = Closed(tmp_path / "toy" / "stop")

    controller = run_on_ray(tiny_experiment("budget.trials=2"), tmp_path / "toy", teacher, scratch, places)

    assert controller.state.closed == "stopped"
    assert all(trial.attempts == [] for trial in trials(tmp_path / "toy"))
