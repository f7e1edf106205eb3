"""How fast a long sweep reaches MLflow, and how fast it is looked at.

    python experiments/benchmarks/mirror.py [--trials 1000] [--epochs 50]

Makes a sweep folder in a temporary folder (in memory where there is room), mirrors it into a fresh SQLite
database, and times what people ask of it. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from big_sweep import make_sweep

from orchestrator.mirror import Mirror, default_uri
from orchestrator.store.paths import SweepPaths

_METRICS = 16
_WARM_UP_TRIALS = 20


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        _mirror(make_sweep(Path(folder, "warm"), trials=_WARM_UP_TRIALS, epochs=2, metrics=_METRICS))
        before = _resident()
        sweep = make_sweep(Path(folder), trials=options.trials, epochs=options.epochs, metrics=_METRICS)
        seconds, busy = _mirror(sweep)
        figures: dict[str, Any] = {
            "trials": options.trials,
            "epochs": options.epochs,
            "metrics": _METRICS,
            "mirror_seconds": seconds,
            "child_runs_per_second": options.trials / seconds,
            "child_runs_per_second_of_processor": options.trials / busy,
            "resident_mib_before": before,
            "resident_mib_after": _resident(),
        }
        for command in ("status", "best", "report"):
            figures[f"{command}_seconds"] = _time(command, sweep)
    print(json.dumps(figures, indent=1))


def _mirror(sweep: SweepPaths) -> tuple[float, float]:
    """Seconds, and seconds of processor time, that it takes to mirror a sweep into a database of its own."""
    begun, busy = time.perf_counter(), time.process_time()
    Mirror(default_uri(sweep.storage), sweep).sync()
    return time.perf_counter() - begun, time.process_time() - busy


def _time(command: str, sweep: SweepPaths) -> float:
    program = [sys.executable, "-c", "from orchestrator.cli import main; main()", command, str(sweep.root)]
    begun = time.perf_counter()
    subprocess.run(program, check=True, capture_output=True)
    return time.perf_counter() - begun


def _resident() -> float:
    """The most memory this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _memory() -> str | None:
    place = Path("/dev/shm")  # noqa: S108
    return str(place) if place.is_dir() else None


if __name__ == "__main__":
    main()
