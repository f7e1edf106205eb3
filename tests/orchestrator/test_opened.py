"""The Python door to a sweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import orchestrator
from orchestrator.errors import UsageError
from orchestrator.opened import find_student, open_sweep
from orchestrator.store.folder import SweepFolder
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep
from tests.support.students import sweep_with_student


def test_a_sweep_gives_its_study_its_tables_and_its_student(tmp_path: Path) -> None:
    paths = sweep_with_student(tmp_path)

    sweep = orchestrator.open_sweep(paths.root)

    (name,) = sweep.trials["trial"].to_pylist()
    assert sweep.study.best_trial.user_attrs["trial"] == name
    assert sweep.metrics["value"].to_pylist() == [0.5]
    student = sweep.load_student(name[:4])
    assert student(torch.zeros(3, 1, 16, 16)).logits_BC.shape == (3, 10)
    assert not student.training


def test_a_sweep_is_opened_by_its_name_too(tmp_path: Path) -> None:
    sweep_with_student(tmp_path)

    assert open_sweep("digits", tmp_path).trials.num_rows == 1
    with pytest.raises(UsageError, match="it holds digits"):
        open_sweep("digit", tmp_path)


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'optuna', 'pyarrow', 'ray', 'mlflow'}"
    probe = f"import sys, orchestrator; print(sorted({heavy} & sys.modules.keys()))"

    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'open_sweeps'"):
        orchestrator.open_sweeps  # noqa: B018


def test_only_one_complete_trial_can_be_meant(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    best = sweep.trial(0, [0.7])
    sweep.trial(1, [0.6])
    sweep.trial(2, [0.1], state=TrialState.PRUNED)
    folder = SweepFolder(sweep.paths)

    assert find_student(folder).name == best
    assert find_student(folder, best).name == best
    for wrong in ("00", f"{2:012x}", "fff"):
        with pytest.raises(UsageError, match="cpsc-orchestrate status"):
            find_student(folder, wrong)


def test_a_student_that_was_removed_is_told_with_how_to_get_it_back(tmp_path: Path) -> None:
    paths = sweep_with_student(tmp_path)
    (trial,) = SweepFolder(paths).trials()
    trial.paths.attempt(1).student.unlink()

    with pytest.raises(UsageError, match=f"cpsc-orchestrate resume {paths.root} --trial {trial.name}"):
        open_sweep(paths.root).load_student()
