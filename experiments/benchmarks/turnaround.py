"""What it costs to go from one trial to the next.

    python experiments/benchmarks/turnaround.py --rounds 3 --json turnaround.json

Trials that do next to nothing run one after the other; what passes between the ends of two of them, less what
the later one says that it worked, is the overhead of a trial. In each round, on one Ray, by turns:

- `ours`: this product's driver and warm gang of one rank, and of two;
- `nested`: a TorchTrainer of one worker inside a Tune function, as Ray documents it, and the same with
  RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.2;
- `function`: a bare Tune function that reports once, without torch and without ranks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller_scale import EXPERIMENT, install_stub

if TYPE_CHECKING:
    from orchestrator.store.records import EndClass
    from orchestrator.trial.assignment import Assignment

INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


@dataclass
class Queue:
    """Orders (`orchestrator.trial.tune.Orders`) that hand out given attempts and note when they end."""

    assignments: Iterator[Assignment]
    finished: bool = False
    ends: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)

    def hand_out(self) -> Assignment | None:
        """The next one."""
        assignment = next(self.assignments, None)
        self.finished = assignment is None
        return assignment

    def hear_line(self, assignment: Assignment, line: dict[str, Any]) -> bool:
        """Go on."""
        return True

    def hear_end(
        self, assignment: Assignment, ended: EndClass, cause: str | None, trace: list[str], node: str | None
    ) -> None:
        """Note when."""
        from cpsc_core.attempt import AttemptPaths, read_lines

        assert ended == "complete", (cause, trace)
        self.ends.append(time.monotonic())
        lines = read_lines(AttemptPaths.of(Path(assignment.folder), assignment.attempt).metrics)
        self.worked.append(lines[-1]["seconds"])

    def tick(self) -> None:
        """Nothing to look for."""


def ours(workers: int, count: int, folder: Path, teacher: dict[str, Any], scratch: Path) -> list[float]:
    """Overheads of all trials but the first, seconds."""
    from cpsc_core.settings import DataSettings, TeacherSettings, TrialSettings, replace_path
    from orchestrator.cluster.capacity import Fixed
    from orchestrator.cluster.shape import Shape
    from orchestrator.config import parse_experiment
    from orchestrator.trial.assignment import Assignment
    from orchestrator.trial.tune import run_trials

    settings = TrialSettings(
        data=DataSettings(name="dots"),
        data_fingerprint="dots 1",
        teacher=TeacherSettings(**teacher),
        student_arch="dot",
        train=parse_experiment(EXPERIMENT, ["train.epochs=1"]).config.train,
        splits=("val",),
    )

    def assignments() -> Iterator[Assignment]:
        for seed in range(count):
            trial = replace_path(settings, "train.seed", seed)
            yield Assignment(
                name=trial.identity(),
                attempt=1,
                folder=str(folder / trial.identity()),
                settings=trial.to_dict(),
                shape=Shape(workers=workers, cpus=1, gpus=0),
                stop_file=str(folder / "stop"),
                hang_seconds=600.0,
            )

    queue = Queue(assignments())
    run_trials(queue, places=Fixed(1), scratch=scratch)
    gaps = [later - earlier for earlier, later in pairwise(queue.ends)]
    return [gap - worked for gap, worked in zip(gaps, queue.worked[1:], strict=True)]


def nested(interval: str | None, count: int, folder: Path) -> list[float]:
    """Seconds between the ends of trials that each run a TorchTrainer of one worker."""

    def trial(config: dict[str, Any]) -> None:
        from ray import train, tune
        from ray.train.torch import TorchTrainer

        os.environ.pop(INTERVAL, None)
        if interval is not None:
            os.environ[INTERVAL] = interval
        trainer = TorchTrainer(
            lambda: train.report({"value": 1.0}),
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=train.RunConfig(name=f"inner-{config['index']}", storage_path=str(folder)),
        )
        trainer.fit()
        tune.report({"value": 1.0})

    return tuned(trial, count, folder, cpus=0.5)


def function(count: int, folder: Path) -> list[float]:
    """Seconds between the ends of trials that report once."""

    def trial(_config: dict[str, Any]) -> None:
        from ray import tune

        tune.report({"value": 1.0})

    return tuned(trial, count, folder, cpus=1)


def tuned(trial: Callable[[dict[str, Any]], None], count: int, folder: Path, cpus: float) -> list[float]:
    """Run a function as Tune trials, one at a time; seconds between their ends."""
    from ray import tune

    ends: list[float] = []

    class Noting(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ends.append(time.monotonic())

    done = tune.Tuner(
        tune.with_resources(trial, {"CPU": cpus}),
        param_space={"index": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0, callbacks=[Noting()]),
    ).fit()
    assert not done.errors, done.errors
    return [later - earlier for earlier, later in pairwise(ends)]


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Overheads per further trial by variant, all rounds together."""
    teacher = install_stub(folder)
    from orchestrator.cluster.scratch import new_scratch
    from orchestrator.cluster.session import open_cluster

    scratch = new_scratch()
    found: dict[str, list[float]] = {}
    with open_cluster(None, scratch):
        for turn in range(rounds):
            place = folder / str(turn)
            variants: dict[str, Callable[[Path], list[float]]] = {
                "ours, 1 rank": lambda at: ours(1, 8, at, teacher, scratch),
                "nested TorchTrainer, as documented": lambda at: nested(None, 2, at),
                "ours, 2 ranks": lambda at: ours(2, 8, at, teacher, scratch),
                "nested TorchTrainer, 0.2 s": lambda at: nested("0.2", 2, at),
                "bare function": lambda at: function(3, at),
            }
            for index, (name, run) in enumerate(variants.items()):
                overheads = run(place / str(index))
                print(
                    f"{name}: {', '.join(f'{each:.3f}' for each in overheads)}", file=sys.stderr, flush=True
                )
                found.setdefault(name, []).extend(overheads)
    return found


def main() -> None:
    """Measure and print medians, and how many times the first is contained in each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cpsc-turn-") as folder:
        found = measure(asked.rounds, Path(folder))
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    base = medians["ours, 1 rank"]
    print(f"seconds per further trial, median (load {load:.1f} before)")
    for name, median in medians.items():
        count = len(found[name])
        print(f"  {name:<36} {median:8.3f}   n = {count:<3} {median / base:6.1f} x")
    if asked.json:
        asked.json.write_text(json.dumps({"load": load, "medians": medians, "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
