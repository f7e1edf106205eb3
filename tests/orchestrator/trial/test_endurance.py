"""Many trials through one gang: each as in a process of its own, and none leaves anything behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cpsc_core.attempt import AttemptPaths
from cpsc_core.settings import TeacherSettings
from orchestrator.cluster.capacity import Fixed
from orchestrator.store.folder import TrialFolder, read_json
from tests.support.ray_sweep import found, meanwhile, run_on_ray, tiny_experiment, trials
from tests.support.trials import digest

TRIALS = 200
WARM_AFTER = 20
MEBIBYTE = 1024**2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def in_a_fresh_process(trial: TrialFolder, folder: Path) -> object:
    """What comes out of the same trial in a process that has never run another one."""
    arguments = [str(trial.paths.record), "--folder", str(folder), "--threads", "1"]
    subprocess.run([sys.executable, "-m", "cpsc_core", *arguments], check=True, capture_output=True)
    return digest(AttemptPaths.of(folder, 1))


def test_two_hundred_trials_through_one_gang_leave_no_trace_in_it_or_in_each_other(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    root = tmp_path / "toy"
    sizes: dict[int, list[int]] = {}

    def measure() -> bool:
        """Memory of rank and driver by the number of trials that have ended."""
        ended = sorted(root.glob("trials/*/result.json"))
        for path in root.glob("trials/*/attempts/1/process.json"):
            if process := read_json(path):
                rank = psutil.Process(process["pid"])
                drivers = [each for each in rank.parent().children() if "TrialDriver" in each.name()]
                sizes[len(ended)] = [each.memory_info().rss for each in (rank, *drivers)]
                break
        return len(ended) >= TRIALS - 1

    config = tiny_experiment(
        f"budget.trials={TRIALS}", "train.epochs=2", space="{loss.ikd: {low: 0.1, high: 1.0}}"
    )
    with meanwhile(measure):
        run_on_ray(config, root, teacher, scratch, Fixed(1))

    ran = trials(root)
    pids = {(read_json(trial.paths.attempt(1).process) or {})["pid"] for trial in ran}
    assert len(ran) == TRIALS
    assert len(pids) == 1
    warm = next(sizes[count] for count in sorted(sizes) if count >= WARM_AFTER)
    last = sizes[max(sizes)]
    growth = [(after - before) / MEBIBYTE for before, after in zip(warm, last, strict=True)]
    print(f"growth of rank and driver in MiB: {growth}")
    assert max(growth) < 50
    for number in (0, TRIALS // 2, TRIALS - 1):
        assert found(ran[number]) == in_a_fresh_process(ran[number], tmp_path / str(number))
