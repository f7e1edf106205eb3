"""Processes of an attempt that was given up, and which go on all the same."""

import signal
import subprocess
import sys
from pathlib import Path

from cpsc_core.attempt import read_lines
from cpsc_core.settings import TeacherSettings
from orchestrator.capacity import Fixed
from orchestrator.store.records import EndClass, TrialState
from tests.support.ray_sweep import (
    as_if_undisturbed,
    meanwhile,
    run_on_ray,
    signal_rank,
    tiny_experiment,
    trials,
)

ZOMBIE = """
import json, sys
from pathlib import Path
from cpsc_core.settings import TrialSettings
from cpsc_core.trial import run_trial

folder = Path(sys.argv[1])
settings = TrialSettings.from_dict(json.loads((folder / "trial.json").read_text())["settings"])
for line in run_trial(settings, folder, 1, threads=1):
    pass
"""


def test_what_a_lost_attempt_still_writes_changes_neither_the_next_one_nor_the_result(
    tmp_path: Path, teacher: TeacherSettings, scratch: Path
) -> None:
    root = tmp_path / "toy"
    kill = signal_rank(root, signal.SIGKILL, after_epoch=3)
    zombies: list[subprocess.Popen[bytes]] = []

    def kill_and_haunt() -> bool:
        if not zombies and kill():
            (folder,) = root.glob("trials/*")
            zombies.append(subprocess.Popen([sys.executable, "-c", ZOMBIE, str(folder)]))
        return bool(zombies)

    with meanwhile(kill_and_haunt):
        run_on_ray(tiny_experiment("budget.trials=1", "train.epochs=60"), root, teacher, scratch, Fixed(1))
    result = next(root.glob("trials/*/result.json")).read_bytes()
    assert zombies[0].wait(timeout=200) == 0

    (trial,) = trials(root)
    haunted = read_lines(trial.paths.attempt(1).metrics)
    assert haunted[-1].get("final"), "the zombie wrote to the end"
    assert [end.ended for end in trial.ends.values()] == [EndClass.INFRASTRUCTURE, EndClass.COMPLETE]
    assert trial.result is not None
    assert (trial.result.state, trial.result.attempt) == (TrialState.COMPLETE, 2)
    assert trial.paths.result.read_bytes() == result
    assert as_if_undisturbed(trial, tmp_path / "whole")
