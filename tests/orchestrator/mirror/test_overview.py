"""What the sweep's own run and the trials' runs carry besides numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.config import parse_experiment
from orchestrator.mirror.attached import trial_files
from orchestrator.mirror.overview import Overview, sweep_overview
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import TrialState
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    return sweep


def names(overview: Overview) -> list[str]:
    return [file.name for file in overview.files]


def test_a_running_sweep_carries_its_leaderboard_and_its_best(sweep: MadeSweep) -> None:
    sweep.trial(0, [0.5], params={"loss.ikd": 0.25})

    overview = sweep_overview(sweep.folder, ended=False)

    assert names(overview) == ["leaderboard.md", "best.yaml"]
    assert overview.note is not None
    assert overview.note.startswith("**digits**")
    assert parse_experiment(overview.files[1].content.decode()).config.name == "digits-best"


def test_an_ended_sweep_carries_figures_and_report_too(sweep: MadeSweep) -> None:
    for number in range(3):
        sweep.trial(number, [0.5, 0.1 * number], params={"loss.ikd": 0.25})
    sweep.paths.report.write_text("<html>")

    overview = sweep_overview(sweep.folder, ended=True)

    assert names(overview) == ["leaderboard.md", "best.yaml", "figures.html", "report.html"]
    assert overview.files[-1].content == b"<html>"


def test_the_same_sweep_has_the_same_figures(sweep: MadeSweep) -> None:
    for number in range(3):
        sweep.trial(number, [0.5, 0.1 * number])

    one, other = (sweep_overview(sweep.folder, ended=True) for _ in range(2))

    assert [file.digest for file in one.files] == [file.digest for file in other.files]


def test_there_is_nothing_to_carry_before_a_trial_is_complete(sweep: MadeSweep) -> None:
    sweep.trial(0, [0.5], state=TrialState.PRUNED)

    assert sweep_overview(sweep.folder, ended=True) == Overview()


def trial(sweep: MadeSweep, name: str) -> TrialFolder:
    (found,) = (each for each in SweepFolder(sweep.paths).trials() if each.name == name)
    return found


def test_a_trial_carries_its_settings_its_log_and_where_its_models_are(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5])
    attempt = sweep.paths.trial(name).attempt(1)
    attempt.log.write_text("it went well\n")
    attempt.per_class.write_text('{"classes": []}')

    files = {file.name: file.content for file in trial_files(trial(sweep, name))}

    assert list(files) == ["config.json", "log.txt", "per_class.json", "models.json"]
    assert json.loads(files["config.json"])["splits"] == ["val"]
    assert files["log.txt"] == b"it went well\n"
    student = json.loads(files["models.json"])["student"]
    assert (student["path"], student["bytes"]) == (str(attempt.student), len(b"weights"))


def test_of_a_long_log_the_end_is_carried(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5])
    sweep.paths.trial(name).attempt(1).log.write_bytes(b"x" * 2**21 + b"the end")

    (log,) = (file.content for file in trial_files(trial(sweep, name)) if file.name == "log.txt")

    assert len(log) == 2**20
    assert log.endswith(b"the end")


def test_what_a_folder_lacks_is_left_out(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [], state=TrialState.FAILED, cause="error", started=False)

    assert [file.name for file in trial_files(trial(sweep, name))] == ["config.json"]
