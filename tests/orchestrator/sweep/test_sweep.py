"""Sweeps as a user runs them: the command in its own process, a real Ray, real training.

tests/chaos has more of them, with worse luck.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from cpsc_core.settings import TrialSettings
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import Stage, TrialState
from tests.support.command import EXPERIMENT, command, document, start, wait_for
from tests.support.trials import digest, finish


def trials(root: Path) -> list[TrialFolder]:
    return SweepFolder(SweepPaths(root)).trials()


def equals_undisturbed(trial: TrialFolder, folder: Path) -> bool:
    """Whether a complete trial equals, to the bit, the same trial run in this process and never disturbed."""
    settings = TrialSettings.from_dict(trial.record.settings)
    assert trial.result is not None
    return digest(trial.paths.attempt(trial.result.attempt)) == digest(finish(settings, folder / trial.name))


def epochs_done(root: Path) -> int:
    """Metric lines in all attempts of a sweep."""
    return sum(path.read_text().count("\n") for path in root.glob("trials/*/attempts/*/metrics.jsonl"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def experiment(storage: Path) -> Path:
    path = storage.parent / "tiny.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def printed(storage: Path, experiment: Path) -> str:
    """What a sweep prints that is run from the file to its end."""
    return command("sweep", experiment, "--storage", storage)


@pytest.fixture(scope="module")
def tiny(storage: Path, printed: str) -> Path:
    return storage / "tiny"


def test_a_sweep_ends_with_leaderboard_parameters_places_and_the_command_for_mlflow(
    tiny: Path, printed: str, storage: Path
) -> None:
    best = document("best", "tiny", "--storage", storage)

    assert "rank" in printed
    assert "best parameters" in printed
    assert best["trial"] in printed
    assert str(tiny) in printed
    assert f"cpsc-orchestrate ui --storage {storage}" in printed
    assert Path(
        next(line.split()[-1] for line in printed.splitlines() if line.startswith("student"))
    ).is_file()


def test_nothing_but_the_sweeps_own_lines_reaches_the_user(printed: str) -> None:
    noise = ("ray::", "raylet", "Ray Tune", "WARNING", "Traceback", "(pid=", "logging.cc")
    before_leaderboard = printed.partition("\ntiny: ")[0].splitlines()

    assert not [word for word in noise if word in printed]
    assert before_leaderboard
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in before_leaderboard)


def test_search_and_confirm_ran_as_the_file_says(tiny: Path) -> None:
    search = [trial for trial in trials(tiny) if trial.record.stage is Stage.SEARCH]
    confirm = [trial for trial in trials(tiny) if trial.record.stage is Stage.CONFIRM]

    assert [trial.record.number for trial in search] == list(range(6))
    assert any(trial.state is TrialState.PRUNED for trial in search)
    assert [trial.state for trial in confirm] == [TrialState.COMPLETE] * 2
    assert all("test_accuracy" in trial.result.metrics for trial in confirm if trial.result)
    assert not any("test_accuracy" in line for trial in search for line in trial.history)


def test_a_trial_run_by_the_sweep_equals_the_same_trial_run_alone(tiny: Path, tmp_path: Path) -> None:
    complete = [trial for trial in trials(tiny) if trial.state is TrialState.COMPLETE]

    assert all(equals_undisturbed(trial, tmp_path) for trial in complete)


def test_status_and_best_agree_with_the_folders(tiny: Path, storage: Path) -> None:
    status = document("status", "tiny", "--storage", storage)
    best = document("best", tiny)
    states = [trial.state for trial in trials(tiny)]

    assert status["state"] == "complete"
    assert status["counts"] == {state.value: states.count(state) for state in TrialState}
    assert best["objective"] == min(
        trial.result.objective
        for trial in trials(tiny)
        if trial.record.number is not None and trial.result and trial.result.objective is not None
    )
    assert best["mlflow_run_id"]


def runs_of(storage: Path) -> list[dict[str, Any]]:
    """What a process that has never seen the database finds in MLflow."""
    script = (
        "import json, sys; from tests.support.mlflow_view import shown; "
        "print(json.dumps(shown(sys.argv[1], 'tiny')))"
    )
    uri = f"sqlite:///{StoragePaths(storage).mlflow_database}"
    done = subprocess.run([sys.executable, "-c", script, uri], capture_output=True, text=True, check=True)
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    return runs


def test_mlflow_shows_every_trial_below_the_sweep_with_its_state_metrics_and_samples(
    tiny: Path, storage: Path
) -> None:
    runs = {run["tags"].get("cpsc.trial"): run for run in runs_of(storage)}
    statuses = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}

    assert len(runs) == 9
    assert runs[None]["status"] == "FINISHED"
    for trial in trials(tiny):
        run = runs[trial.name]
        accuracy = [(step, float(value)) for key, step, _, value in run["points"] if key == "val_accuracy"]
        assert run["status"] == statuses[trial.state]
        assert run["tags"]["cpsc.state"] == trial.state
        assert run["tags"]["mlflow.parentRunId"] == runs[None]["name"]
        assert {str(value) for value in trial.record.params.values()} <= set(run["params"].values())
        assert accuracy == [(line["epoch"], line["val_accuracy"]) for line in trial.history]
        assert [step for step, _ in run["images"]] == list(trial.samples())


def test_the_same_runs_are_back_after_mlflows_database_was_deleted(tiny: Path, storage: Path) -> None:
    before = runs_of(storage)
    StoragePaths(storage).mlflow_database.unlink()
    shutil.rmtree(StoragePaths(storage).mlflow_artifacts)

    command("sync", "tiny", "--storage", storage)

    assert runs_of(storage) == before


def files_of_attempts(root: Path) -> dict[Path, int]:
    """Every file that trials wrote, with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in root.glob("trials/*/attempts/**/*") if path.is_file()}


def test_a_finished_sweep_given_again_computes_nothing(tiny: Path, storage: Path, experiment: Path) -> None:
    before = files_of_attempts(tiny)

    again = command("sweep", experiment, "--storage", storage)

    assert "training it once" not in again
    assert {
        path: path.stat().st_mtime_ns for path in tiny.rglob("*/attempts/**/*") if path.is_file()
    } == before


def test_another_file_under_the_same_name_is_refused_with_the_difference(
    tiny: Path, storage: Path, experiment: Path
) -> None:
    error = command("sweep", experiment, "--storage", storage, "--set", "train.epochs=5", code=2)

    assert "train.epochs: 4 -> 5" in error
    assert f"cpsc-orchestrate resume {tiny}" in error
    assert "Traceback" not in error


def test_a_wrong_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(EXPERIMENT.replace("batch_size: 8", "batchsize: 8"))

    error = command("sweep", path, "--storage", tmp_path / "runs", code=2)

    assert "wrong.yaml:9: train.batchsize: unknown key; did you mean batch_size?" in error
    assert not (tmp_path / "runs").exists()


def ray_processes() -> set[int]:
    names = ("raylet", "gcs_server")
    return {each.pid for each in psutil.process_iter(["name"]) if each.info["name"] in names}


def test_ctrl_c_checkpoints_and_says_how_to_go_on_while_a_second_controller_is_refused(
    tiny: Path, storage: Path, experiment: Path, tmp_path: Path
) -> None:
    before = ray_processes()
    name, root = "interrupted", storage / "interrupted"
    long = (
        "--set",
        "train.epochs=200",
        "--set",
        "budget.trials=2",
        "--set",
        "confirm.top=0",
        "--set",
        "pruner.name=none",
    )
    process = start("sweep", experiment, "--storage", storage, "--set", f"name={name}", *long)
    wait_for(lambda: epochs_done(root) >= 4)
    refused = command("resume", name, "--storage", storage, code=5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)

    assert f"owned by process {process.pid}" in refused
    assert process.returncode == 130
    assert f"cpsc-orchestrate resume {root}" in error.splitlines()[-1]
    assert all(trial.result is None and trial.paths.attempt(1).checkpoint_points() for trial in trials(root))
    assert document("status", name, "--storage", storage)["state"] == "interrupted"
    wait_for(lambda: ray_processes() <= before, seconds=30)
