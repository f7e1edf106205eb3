"""What the controller costs per trial, and whether that grows with the sweep.

    python experiments/benchmarks/controller_scale.py --sizes 100 1000 5000 --bare 100 1000 --json scale.json

Sweeps of stub trials (see stub.py) with 10 reports each: real controller, real Ray, real folders, a real
mirror into SQLite, no training. Each sweep runs in a process of its own, one trial at a time. Seconds of the
controller's own thread and of the mirror's are processor time, so that a busy machine changes them little;
`wall` is what a trial took from start to end, its own work included. For who cannot wait, `--fresh 100` runs
the last 100 trials of each sweep; the folders of those before are made up and mirrored beforehand. `--bare`
runs bare Ray Tune on as many empty trials, with OptunaSearch on an SQLite storage.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpsc_core.settings import TrialSettings
    from orchestrator.config import SweepConfig
    from orchestrator.store.writer import SweepWriter

REPORTS = 10
ENTRY_POINTS = """
[cpsc_core.methods]
still = stub:Still
[cpsc_core.networks]
dot = stub:Dot
[cpsc_core.data_sets]
dots = stub:DOTS
"""
EXPERIMENT = """
name: scale
data: {name: digits}
teacher: {arch: resnet8}
student: {arch: dot}
train:
  method: still
  epochs: 10
  iterations_per_epoch: 1
  batch_size: 2
  samples_every: 100
  checkpoint_every: 100
  generator: {width: 4, latent_dim: 4}
search:
  loss.ikd: {low: 0.1, high: 10, log: true}
  loss.batch_norm: {low: 0.1, high: 10, log: true}
  student.lr: {low: 0.001, high: 0.1, log: true}
  generator.steps: {low: 1, high: 4}
sampler: {name: tpe}
pruner: {name: none}
confirm: {top: 0}
"""


def install_stub(folder: Path) -> dict[str, Any]:
    """Make an installed package of stub.py, for this process and its children; returns a teacher to use.

    The teacher is made in a process of its own, for a controller never loads torch.
    """
    site, source = folder / "site", Path(__file__).with_name("stub.py")
    metadata = site / "stub-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: stub\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    shutil.copy(source, site / "stub.py")
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(site / "stub.py"), str(folder / "teacher.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    teacher: dict[str, Any] = json.loads(done.stdout)
    return teacher


def fill(writer: SweepWriter, config: SweepConfig, template: TrialSettings, trials: int) -> None:
    """Folders as so many finished stub trials leave them, with random parameters."""
    from orchestrator.config import apply
    from orchestrator.store.records import AttemptEnd, EndClass, Result, Stage, TrialRecord, TrialState
    from orchestrator.study.study import Study

    study = Study(config)
    chance = random.Random(0)  # noqa: S311
    spaces = study.suggest(0)
    assert spaces is not None
    for number in range(trials):
        params = {
            "loss.batch_norm": 0.1 * 100 ** chance.random(),
            "loss.ikd": 0.1 * 100 ** chance.random(),
            "student.lr": 0.001 * 100 ** chance.random(),
            "generator.steps": chance.randint(1, 4),
        }
        settings = apply(template, params)
        paths = writer.paths.trial(settings.identity())
        attempt = paths.attempt(1)
        attempt.root.mkdir(parents=True)
        value = chance.random()
        lines = [
            {"epoch": epoch, "seconds": 0.1 * epoch, "val_accuracy": value * epoch / (epoch + 1)}
            for epoch in range(1, REPORTS + 1)
        ]
        lines[-1]["final"] = True
        attempt.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        record = TrialRecord(
            name=paths.root.name,
            number=number,
            stage=Stage.SEARCH,
            params=params,
            distributions=spaces.distributions,
            system_attrs={},
            settings=settings.to_dict(),
            created=float(number),
            generation=1,
        )
        result = Result(
            state=TrialState.COMPLETE,
            objective=lines[-1]["val_accuracy"],
            params=params,
            metrics=lines[-1],
            timing={"seconds": 1.0, "ended": float(number)},
            cause=None,
            detail=None,
            attempt=1,
            generation=1,
        )
        end = AttemptEnd(ended=EndClass.COMPLETE, seconds=1.0)
        for path, content in ((paths.record, record), (attempt.end, end), (paths.result, result)):
            path.write_text(json.dumps(content.to_dict()))


def run_ours(trials: int, folder: Path, fresh: int) -> dict[str, Any]:
    """A sweep of stub trials, of which `fresh` are run, and then a controller that finds it finished."""
    fresh = min(fresh, trials)
    every = min(100, fresh // 4)
    teacher = install_stub(folder)
    from ledger import Ledger, Marking

    from cpsc_core.settings import DataSettings, TeacherSettings, TrialSettings
    from orchestrator.cluster.capacity import Fixed
    from orchestrator.cluster.scratch import new_scratch
    from orchestrator.cluster.session import open_cluster
    from orchestrator.cluster.shape import Shape
    from orchestrator.config import parse_experiment
    from orchestrator.controller.controller import Controller
    from orchestrator.mirror import Mirror, default_uri
    from orchestrator.report.views import Views
    from orchestrator.store.lease import Lease
    from orchestrator.store.paths import StoragePaths
    from orchestrator.store.writer import SweepWriter
    from orchestrator.study.study import Study
    from orchestrator.sweep.board import Pace
    from orchestrator.sweep.progress import PlainProgress
    from orchestrator.sweep.vitals import Vitals
    from orchestrator.sweep.window import Window

    config = parse_experiment(EXPERIMENT, [f"budget.trials={trials}"]).config
    template = TrialSettings(
        data=DataSettings(name="dots"),
        data_fingerprint="dots 1",
        teacher=TeacherSettings(**teacher),
        student_arch="dot",
        train=config.train,
        splits=("val",),
    )
    ledger = Ledger()
    paths = StoragePaths(folder / "storage").sweep("scale")
    paths.trials.mkdir(parents=True)
    shape = Shape(workers=1, cpus=1, gpus=0)
    scratch = new_scratch()

    with Lease.acquire(paths.lease) as lease, open_cluster(None, scratch) as cluster:
        from orchestrator.trial.tune import run_trials

        writer = SweepWriter(paths, lease)
        paths.experiment.write_text(EXPERIMENT)
        writer.write_manifest({"sweep": "scale", "created": time.time()})
        fill(writer, config, template, trials - fresh)
        Mirror(default_uri(paths.storage), paths).sync()
        ledger.charge(Study, "suggest", "suggestion")
        for method in ("write_trial", "write_end", "write_result"):
            ledger.charge(SweepWriter, method, "commit")
        ledger.charge(Mirror, "_sync", "mirror")
        ledger.charge(Views, "write", "views")
        window = Window(paths, config, lease, print)
        controller = Controller(config, template, writer, shape)
        pace, progress = Pace(time.monotonic, 1), PlainProgress(io.StringIO())
        with window, Vitals(cluster.lost, "") as vitals:
            orders = Marking(controller, pace, progress, window.mirror, vitals)
            orders.note_in(ledger, range(every, fresh + 1, every))
            run_trials(orders, places=Fixed(1), scratch=scratch)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.monotonic()
        again = Controller(config, template, writer, shape)
        again.hand_out()
        resume = time.monotonic() - began
    states = Counter(trial.state.value for trial in again.state.trials.values())
    assert again.finished and states == {"complete": trials}, states
    return {
        "mirror_ms": ledger.spent["mirror"] * 1e3 / fresh,
        "per_trial_ms": ledger.per_trial(0, -1),
        "first_ms": ledger.per_trial(0, 1),
        "last_ms": ledger.per_trial(-2, -1),
        "peak_memory_mb": memory,
        "resume_seconds": resume,
    }


def run_bare(trials: int, folder: Path, _fresh: int) -> dict[str, Any]:
    """As many empty trials by Ray Tune alone, with OptunaSearch on an SQLite storage."""
    import optuna
    from ray import init, tune
    from ray.tune.search.optuna import OptunaSearch

    class Empty(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._value, self._epoch = new_config["ikd"], 0
            return True

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            return {"value": self._value * self._epoch, "done": self._epoch == REPORTS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

    space = {
        "ikd": tune.loguniform(0.1, 10),
        "batch_norm": tune.loguniform(0.1, 10),
        "lr": tune.loguniform(0.001, 0.1),
        "steps": tune.randint(1, 5),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    search = OptunaSearch(space, metric="value", mode="max", storage=storage, study_name="bare")
    init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    tuner = tune.Tuner(
        Empty,
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "bare"), verbose=0),
    )
    before, began = time.thread_time(), time.monotonic()
    tuner.fit()
    wall, controller = time.monotonic() - began, time.thread_time() - before
    return {
        "per_trial_ms": {"controller": controller * 1e3 / trials, "wall": wall * 1e3 / trials},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


RUNS: dict[str, Callable[[int, Path, int], dict[str, Any]]] = {"ours": run_ours, "bare": run_bare}


def in_a_process(kind: str, trials: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One run in a fresh process; what it measured, with the machine's load before it."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--one", kind, str(trials)]
    command += ["--fresh", str(asked.fresh), *(["--folder", str(asked.folder)] if asked.folder else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} {trials} failed:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"kind": kind, "trials": trials, "load": load, **measured}


def describe(run: dict[str, Any]) -> str:
    """One run in one line."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in run["per_trial_ms"].items())
    text = f"{run['kind']} {run['trials']:>5}: ms per trial: {parts}; {run['peak_memory_mb']:.0f} MB"
    if "resume_seconds" in run:
        last = ", ".join(f"{name} {value:.1f}" for name, value in run["last_ms"].items())
        text += f"; mirror with its end {run['mirror_ms']:.1f}; resume {run['resume_seconds']:.1f} s"
        text += f"\n{'':>10}  at its end: {last}"
    return f"{text} (load {run['load']:.1f})"


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--bare", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--fresh", type=int, default=1_000_000, help="run only so many; the folders of the others are made up"
    )
    parser.add_argument("--folder", type=Path, help="where sweeps are written, each removed at its end")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory(
            prefix="cpsc-scale-", dir=asked.folder, ignore_cleanup_errors=True
        ) as folder:
            print(json.dumps(RUNS[asked.one[0]](int(asked.one[1]), Path(folder), asked.fresh)))
        return
    runs = []
    for kind, trials in [("ours", size) for size in asked.sizes] + [("bare", size) for size in asked.bare]:
        runs.append(in_a_process(kind, trials, asked))
        print(describe(runs[-1]), flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
