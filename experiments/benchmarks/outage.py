"""What training notices of an MLflow server that is away.

    python experiments/benchmarks/outage.py [--rounds 3] [--json outage.json]

Runs the same short sweep on digits by turns with a database that works, with a server that refuses every
connection, and with one that accepts them and never answers. Prints the median seconds of an epoch, and how
many times those of the first that is.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

EXPERIMENT = """
name: outage
data: {name: digits}
teacher: {arch: resnet8, train: {epochs: 1, batch_size: 64}}
student: {arch: resnet8}
train:
  epochs: 60
  iterations_per_epoch: 4
  batch_size: 32
  samples_every: 5
  generator: {width: 16, steps: 1}
  student: {steps: 2}
search: {loss.ikd: {low: 0.1, high: 10}}
pruner: {name: none}
budget: {trials: 1}
confirm: {top: 0}
"""
WARM_UP_EPOCHS = 10


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures, with their ratio")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"works": [], "refuses": [], "is silent": []}
    with tempfile.TemporaryDirectory() as folder, _silent_server() as silent, _closed_port() as refusing:
        experiment = Path(folder, "outage.yaml")
        experiment.write_text(EXPERIMENT)
        trackers = {"works": None, "refuses": refusing, "is silent": silent}
        for turn in range(options.rounds):
            for server, tracker in trackers.items():
                name = f"outage-{turn}-{server.replace(' ', '-')}"
                seconds[server] += _epochs(experiment, Path(folder, "storage"), name, tracker)
    baseline = statistics.median(seconds["works"])
    figures = []
    for server, epochs in seconds.items():
        median = statistics.median(epochs)
        figures.append(
            {"server": server, "epoch_seconds": median, "ratio": median / baseline, "n": len(epochs)}
        )
        print(f"{server:>10}: {median:.4f} s an epoch, {median / baseline:.3f} x, n = {len(epochs)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _epochs(experiment: Path, storage: Path, name: str, tracker: str | None) -> list[float]:
    """Seconds of every epoch of the sweep's one trial, but the first few."""
    program = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
    command = [*program, "sweep", str(experiment), "--storage", str(storage), "--set", f"name={name}"]
    if tracker is not None:
        command += ["--set", f"tracking.uri={tracker}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    (lines,) = storage.glob(f"{name}/trials/*/attempts/1/metrics.jsonl")
    moments = [json.loads(line)["seconds"] for line in lines.read_text().splitlines()]
    return [later - earlier for earlier, later in pairwise(moments[WARM_UP_EPOCHS:])]


@contextmanager
def _silent_server() -> Iterator[str]:
    """The URI of a server that accepts connections, since the kernel does, and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _closed_port() -> Iterator[str]:
    """The URI of a port that is taken, so that nobody else opens it, and listens to nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


if __name__ == "__main__":
    main()
