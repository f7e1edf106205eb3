from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console

from orchestrator.report.closing import closing_text
from orchestrator.store.records import TrialState
from tests.support.folders import URI, MadeSweep


def printed(sweep: MadeSweep) -> str:
    console = Console(width=60, force_terminal=False)
    with console.capture() as captured:
        console.print(closing_text(sweep.folder), crop=False)
    return captured.get()


def test_the_best_student_is_told_in_the_block_it_belongs_to(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.6], params={"student.lr": 0.25, "student.arch": "resnet20"})

    text = printed(sweep)

    block = text[text.index("train:") : text.index("digits is complete: 1 complete")]
    assert yaml.safe_load(block) == {"train": {"student": {"lr": 0.25}}, "student": {"arch": "resnet20"}}


def test_the_best_parameters_can_be_pasted_into_an_experiment_file(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.6], params={"loss.ikd": 0.1 + 0.2, "loss.batch_norm": 2.0, "generator.steps": 3})

    text = printed(sweep)

    block = text[text.index("train:") : text.index("digits is complete: 1 complete")]
    expected = {"loss": {"ikd": 0.1 + 0.2, "batch_norm": 2.0}, "generator": {"steps": 3}}
    assert yaml.safe_load(block) == {"train": expected}


def test_everything_worth_opening_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path / ("a folder with a name longer than the terminal is wide " * 2))
    name = sweep.trial(0, [0.6])

    lines = printed(sweep).splitlines()

    storage = sweep.paths.storage.root
    assert lines[-4:] == [
        f"sweep    {sweep.paths.root}",
        f"student  {sweep.paths.trial(name).attempt(1).student}",
        f"MLflow   {URI}",
        f"browse   cpsc-orchestrate ui --storage '{storage}'",
    ]


def test_a_sweep_in_which_nothing_was_completed_still_says_where_it_lies(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [], state=TrialState.FAILED, cause="error")

    text = printed(sweep)

    assert "best parameters" not in text
    assert "digits is complete: 1 failed" in text
    assert str(sweep.paths.root) in text
    assert "student" not in text


def test_runs_on_a_server_are_browsed_there(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path, manifest={"tracking_uri": "https://mlflow.example.org?key=secret"})

    lines = printed(sweep).splitlines()

    assert lines[-2:] == ["MLflow   https://mlflow.example.org", "browse   https://mlflow.example.org"]
