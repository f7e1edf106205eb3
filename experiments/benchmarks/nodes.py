"""What several ranks and several machines cost.

    python experiments/benchmarks/nodes.py --rounds 3 --kills 3 --trials 120 --json nodes.json

- ranks: one rank with two threads, and two ranks with one thread that talk by gloo, by turns; images per
  second.
- loss: a machine (a raylet with its processes on this one) is killed while it runs a trial; seconds until
  the trial's next attempt is placed, and until that has finished its first epoch, which is a single
  iteration. Connections of a killed process break at once; those of a machine that loses its power do not,
  and Ray's head takes a minute to notice.
- scheduling: stub trials (see stub.py) on three machines of one CPU and on one machine of three CPUs, three
  at a time, by turns; milliseconds of the controller's thread and of the clock per trial.

The machines are on this one and share its cores: what the second and third figure compare is the work of
scheduling, not of training.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller_scale import EXPERIMENT, install_stub

RANKS = {"one rank, two threads": (1, 2), "two ranks, one thread": (2, 1)}
BATCH, ITERATIONS, EPOCHS = 256, 4, 4
TINY = """
name: loss
data: {name: digits}
teacher: {arch: resnet8, train: {epochs: 1}}
student: {arch: resnet8}
train:
  epochs: 2000
  iterations_per_epoch: 1
  batch_size: 8
  samples_every: 10000
  generator: {width: 8, latent_dim: 8, steps: 1}
  student: {steps: 1}
search: {loss.ikd: {low: 0.1, high: 1.0}}
sampler: {name: random}
budget: {trials: 1}
confirm: {top: 0}
"""
COMMAND = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


def settings_of_ranks(teacher: dict[str, Any]) -> dict[str, Any]:
    """A trial on the digits that is large enough for two ranks to be worth it."""
    from cpsc_core.data.digits import DIGITS
    from cpsc_core.settings import (
        DataSettings,
        LossSettings,
        StudentSettings,
        TeacherSettings,
        TrainSettings,
        TrialSettings,
    )

    return TrialSettings(
        data=DataSettings(name="digits"),
        data_fingerprint=DIGITS.fingerprint(),
        teacher=TeacherSettings(**teacher),
        student_arch="resnet8",
        train=TrainSettings(
            # a teacher that knows nothing has large logits: nobody is to run after them
            loss=LossSettings(ikd=1e-6),
            student=StudentSettings(lr=1e-6),
            epochs=EPOCHS,
            iterations_per_epoch=ITERATIONS,
            batch_size=BATCH,
            samples_every=10_000,
        ),
    ).to_dict()


def images_per_second(settings: dict[str, Any], ranks: int, threads: int, folder: Path) -> float:
    """Images that go through the networks per second, scoring included, after the first epoch."""
    from cpsc_core.attempt import AttemptPaths, read_lines

    folder.mkdir(parents=True)
    config = folder / "settings.json"
    config.write_text(json.dumps(settings))
    trial = folder / "trial"
    command = [sys.executable, "-m", "cpsc_core", str(config), "--folder", str(trial)]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    started = [
        subprocess.Popen(
            [*command, "--threads", str(threads)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else None,
            stdout=subprocess.DEVNULL,
        )
        for rank in range(ranks)
    ]
    assert [each.wait() for each in started] == [0] * ranks
    lines = read_lines(AttemptPaths.of(trial, 1).metrics)
    steps = settings["train"]["generator"]["steps"] + settings["train"]["student"]["steps"]
    images = (len(lines) - 1) * ITERATIONS * steps * BATCH
    return float(images / (lines[-1]["seconds"] - lines[0]["seconds"]))


def compare_ranks(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Images per second of each variant, by turns."""
    from cpsc_core.data.digits import DIGITS
    from cpsc_core.weights import build_network, save_tensors

    weights = folder / "teacher.safetensors"
    sha256 = save_tensors(weights, build_network("resnet20", DIGITS.spec).state_dict())
    settings = settings_of_ranks({"arch": "resnet20", "weights": str(weights), "sha256": sha256})
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name, (ranks, threads) in RANKS.items():
            rate = images_per_second(settings, ranks, threads, folder / f"{turn}-{ranks}")
            found.setdefault(name, []).append(rate)
            print(f"{name}: {rate:.0f} images/s", file=sys.stderr, flush=True)
    return found


@contextmanager
def machines(folder: Path, *cpus: int) -> Iterator[Any]:
    """A Ray with a head that runs no trials and machines of so many CPUs; it is joined by its `address`."""
    token = folder / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for count in cpus:
            cluster.add_node(num_cpus=count)
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def time_loss(folder: Path) -> dict[str, float]:
    """Kill the machine that runs a trial; seconds until it is placed anew, and has done another epoch."""
    from cpsc_core.attempt import AttemptPaths, read_lines

    experiment = folder / "loss.yaml"
    experiment.write_text(TINY)
    with machines(folder, 1, 1) as cluster:
        storage = folder / "runs"
        sweep = subprocess.Popen(
            [*COMMAND, "sweep", experiment, "--storage", storage, "--address", cluster.address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        first = _wait(lambda: _attempts(storage, 1, at_least=5))
        process = json.loads(AttemptPaths(first).process.read_text())
        raylet = int(Path(f"/proc/{process['pids'][0]}/stat").read_text().rpartition(")")[2].split()[1])
        (node,) = (each for each in cluster.worker_nodes if _raylet(each) == raylet)
        began = time.monotonic()
        cluster.remove_node(node, allow_graceful=False)
        killed = time.monotonic()
        second = first.with_name("2")
        _wait(second.exists)
        placed = time.monotonic()
        held = len(read_lines(AttemptPaths(second).metrics))
        _wait(lambda: len(read_lines(AttemptPaths(second).metrics)) > max(held, 0))
        stepped = time.monotonic()
        sweep.terminate()
        sweep.wait(timeout=120)
    return {
        "kill": killed - began,
        "placed": placed - began,
        "next step": stepped - began,
    }


def _raylet(node: Any) -> int:
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def _attempts(storage: Path, number: int, at_least: int) -> Path | None:
    """The attempt folder of a number that has so many epochs."""
    from cpsc_core.attempt import AttemptPaths, read_lines

    found = storage.glob(f"loss/trials/*/attempts/{number}")
    return next((each for each in found if len(read_lines(AttemptPaths(each).metrics)) >= at_least), None)


def _wait(what: Callable[[], Any], seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def schedule(trials: int, folder: Path, cpus: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds per stub trial on machines of so many CPUs, all CPUs in use, after the first few."""
    teacher = install_stub(folder)
    with machines(folder, *cpus) as cluster:
        return _scheduled(trials, folder, cluster.address, teacher)


def _scheduled(trials: int, folder: Path, address: str, teacher: dict[str, Any]) -> dict[str, float]:
    from ledger import Ledger, Marking

    from cpsc_core.settings import DataSettings, TeacherSettings, TrialSettings
    from orchestrator.cluster.places import open_places
    from orchestrator.cluster.scratch import new_scratch
    from orchestrator.cluster.session import open_cluster
    from orchestrator.cluster.shape import Shape
    from orchestrator.config import parse_experiment
    from orchestrator.controller.controller import Controller
    from orchestrator.store.lease import Lease
    from orchestrator.store.paths import StoragePaths
    from orchestrator.store.writer import SweepWriter
    from orchestrator.study.study import Study
    from orchestrator.sweep.board import Pace
    from orchestrator.sweep.progress import PlainProgress
    from orchestrator.sweep.vitals import Vitals

    config = parse_experiment(EXPERIMENT, [f"budget.trials={trials}", "sampler={name: random}"]).config
    template = TrialSettings(
        data=DataSettings(name="dots"),
        data_fingerprint="dots 1",
        teacher=TeacherSettings(**teacher),
        student_arch="dot",
        train=config.train,
        splits=("val",),
    )
    ledger = Ledger()
    ledger.charge(Study, "suggest", "suggestion")
    for method in ("write_trial", "write_end", "write_result"):
        ledger.charge(SweepWriter, method, "commit")
    paths = StoragePaths(folder / "storage").sweep("scale")
    paths.trials.mkdir(parents=True)
    shape, scratch = Shape(workers=1, cpus=1, gpus=0), new_scratch()

    with (
        Lease.acquire(paths.lease) as lease,
        open_cluster(address, scratch) as cluster,
        open_places(cluster, shape, shared=paths.root, data=None, say=_unheard) as places,
    ):
        from orchestrator.trial.tune import run_trials

        controller = Controller(config, template, SweepWriter(paths, lease), shape)
        pace, progress = Pace(time.monotonic, 3), PlainProgress(io.StringIO())
        with Vitals(cluster.lost, "") as vitals:
            orders = Marking(controller, pace, progress, _Blind(), vitals)
            orders.note_in(ledger, (trials // 4, trials))
            run_trials(orders, places=places, scratch=scratch)
    spent = ledger.per_trial(0, 1)
    return {"controller": spent["scheduling"] + spent["suggestion"] + spent["commit"], "wall": spent["wall"]}


class _Blind:
    """A mirror that shows nothing."""

    last_error: str | None = None

    def wake(self) -> None:
        """Nobody sleeps here."""


def _unheard(_line: str) -> None:
    """Nobody listens either."""


def in_a_process(*what: str) -> dict[str, float]:
    """One run in a fresh process: Ray's and the stub's settings live in the environment."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *what], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(what)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{' '.join(what)}: {measured}", file=sys.stderr, flush=True)
    return measured


def run_one(what: list[str], folder: Path) -> dict[str, float]:
    """What a process of its own measures."""
    if what[0] == "loss":
        return time_loss(folder)
    return schedule(int(what[1]), folder, tuple(int(each) for each in what[2].split(",")))


def table(title: str, rows: dict[str, list[float]], digits: int, against: str | None) -> None:
    """Medians, extremes, and how each compares with one of them."""
    print(f"\n{title}")
    for name, values in rows.items():
        middle = statistics.median(values)
        ratio = "" if against is None else f"   {middle / statistics.median(rows[against]):5.2f} x"
        extremes = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        print(f"  {name:<24} {middle:9.{digits}f}   {extremes:<20} n = {len(values)}{ratio}")


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of ranks and of scheduling")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--trials", type=int, default=120, help="stub trials of a run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    # a socket's path may have 107 bytes, and Ray's lie deep
    with tempfile.TemporaryDirectory(prefix="cpsc-nodes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if asked.one:
            print(json.dumps(run_one(asked.one, folder)))
            return
        load = os.getloadavg()[0]
        found: dict[str, Any] = {"load": load, "ranks": compare_ranks(asked.rounds, folder)}
    kills = [in_a_process("loss") for _ in range(asked.kills)]
    found["loss"] = {name: [kill[name] for kill in kills] for name in kills[0]} if kills else {}
    clusters = {"one machine": "3", "three machines": "1,1,1"}
    runs = [
        (name, in_a_process("scheduling", str(asked.trials), cpus))
        for _ in range(asked.rounds)
        for name, cpus in clusters.items()
    ]
    for kind in ("controller", "wall"):
        found[kind] = {name: [run[kind] for of, run in runs if of == name] for name in clusters}
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    if found["ranks"]:
        table("ranks: images per second", found["ranks"], 0, "one rank, two threads")
    if found["loss"]:
        table("loss: seconds after the kill", found["loss"], 1, None)
    if runs:
        table("scheduling: ms of the controller's thread per trial", found["controller"], 1, "one machine")
        table("scheduling: ms between two trials' ends", found["wall"], 1, "one machine")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
