"""What a resume may change and what it refuses, before any Ray is asked for."""

from __future__ import annotations

import errno
import io
import os
import signal
from pathlib import Path

import pytest

from orchestrator.config import parse_experiment
from orchestrator.errors import BudgetError, UnreachableError, UsageError
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import StoragePaths
from orchestrator.store.writer import SweepWriter
from orchestrator.sweep.commands import resume_sweep, run_sweep
from orchestrator.sweep.progress import progress_for
from orchestrator.sweep.run import Outcome, Run
from tests.support.cards import CARD
from tests.support.simulator import EXPERIMENT, SPACE

NOBODY = "127.0.0.1:1"
"""An address where no Ray answers: a run ends there, once everything was prepared."""


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep that has begun."""
    experiment = parse_experiment(EXPERIMENT.replace("SPACE", SPACE))
    with pytest.raises(UnreachableError), progress_for(io.StringIO()) as progress:
        run_sweep(experiment, storage=tmp_path, address=NOBODY, progress=progress)
    return SweepFolder(StoragePaths(tmp_path).sweep("toy"))


def resume(folder: SweepFolder, *overrides: str, add_trials: int = 0) -> Outcome:
    with progress_for(io.StringIO()) as progress:
        return resume_sweep(
            folder, overrides=overrides, add_trials=add_trials, address=NOBODY, progress=progress
        )


def test_a_budget_is_changed_for_good_and_the_change_is_noted(folder: SweepFolder) -> None:
    with pytest.raises(UnreachableError):
        resume(folder, "budget.hours=8", "budget.gpu_hours=32", "retry.hang=5")
    with pytest.raises(UnreachableError):
        resume(folder)

    kept = parse_experiment(folder.paths.experiment.read_text()).config
    assert (kept.budget.hours, kept.budget.gpu_hours, kept.retry.hang) == (8.0, 32.0, 5)
    changes = [run["changes"] for run in folder.manifest["runs"]]
    assert changes == [
        [],
        ["budget.hours: null -> 8.0", "budget.gpu_hours: null -> 32.0", "retry.hang: 2 -> 5"],
        [],
    ]


def test_trials_are_added_once_although_the_command_has_to_be_given_again(folder: SweepFolder) -> None:
    before = folder.manifest["budget_trials"]

    for _ in range(2):
        with pytest.raises(UnreachableError):
            resume(folder, add_trials=5)

    assert folder.manifest["budget_trials"] == before


def test_added_trials_are_counted_from_the_budget_that_holds_once_nothing_can_be_refused(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    farewells: list[str] = []

    def come_so_far(run: Run, writer: SweepWriter) -> str:
        farewells.append(run._farewell())
        run._note_teacher(writer, CARD)
        farewells.append(run._farewell())
        assert run.config.budget.trials == folder.manifest["budget_trials"]
        return "there is no cluster here"

    monkeypatch.setattr(Run, "_stages", come_so_far)
    for overrides, added in (((), 5), ((), 0), (("budget.trials=40",), 0), ((), 2)):
        with pytest.raises(BudgetError):
            resume(folder, *overrides, add_trials=added)

    assert folder.manifest["budget_trials"] == 42
    assert ["--add-trials 5" in farewell for farewell in farewells[:2]] == [True, False]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.epochs=12", "train.epochs: 9 -> 12"),
        ("sampler.seed=1", "sampler.seed: 0 -> 1"),
        ("search.loss.ikd.high=5", "search.loss.ikd.high: 10.0 -> 5.0"),
        ("teacher.arch=resnet56", "teacher.arch: 'resnet20' -> 'resnet56'"),
    ],
)
def test_what_decides_trials_is_refused_with_the_difference(
    folder: SweepFolder, override: str, line: str
) -> None:
    before = folder.paths.experiment.read_text()

    with pytest.raises(UsageError) as refused:
        resume(folder, "budget.hours=8", override)

    assert line in str(refused.value)
    assert "budget" not in str(refused.value)
    assert f"cpsc-orchestrate resume {folder.paths.root}" in str(refused.value)
    assert folder.paths.experiment.read_text() == before


def test_every_run_notes_the_code_and_the_versions_it_ran_with(folder: SweepFolder) -> None:
    (run,) = folder.manifest["runs"]

    assert run["versions"]["torch"]
    assert set(run["code"]) == {"commit", "dirty"}
    assert len(run["config_sha256"]) == 64


def test_a_storage_that_fails_ends_the_run_with_what_to_do(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SweepWriter, "write_manifest", fail)

    with pytest.raises(
        UnreachableError, match=r"No space left on device.*go on with `cpsc-orchestrate resume"
    ):
        resume(folder)


def test_ctrl_c_while_the_storage_fails_ends_like_any_other_and_says_what_to_do(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("orchestrator.sweep.run.open_cluster", interrupt)

    outcome = resume(folder)

    assert outcome.exit_code == 130
    assert "No space left on device" in (outcome.message or "")
    assert "go on with `cpsc-orchestrate resume" in (outcome.message or "")
