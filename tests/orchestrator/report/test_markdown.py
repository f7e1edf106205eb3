"""A leaderboard for a pull request."""

from __future__ import annotations

from pathlib import Path

from orchestrator.report.leaderboard import leaderboard_document
from orchestrator.report.markdown import leaderboard_markdown
from tests.support.folders import MadeSweep


def test_it_is_a_table_of_the_best_with_the_teacher_above(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5], params={"loss.ikd": 1.0})
    sweep.trial(1, [0.75], params={"loss.ikd": 2.0})
    sweep.trial(None, [0.7], seed=1, test=0.6, params={"loss.ikd": 2.0})

    lines = leaderboard_markdown(leaderboard_document(sweep.folder)).splitlines()

    assert lines[0].startswith("**digits**: maximize last val_accuracy; teacher resnet20: val 97.0 %")
    assert lines[2:] == [
        "| rank | trial | objective | confirm val | confirm test | ikd |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 1 | 1 | 0.7500 | 0.7000 | 0.6000 | 2.0 |",
        "| 2 | 0 | 0.5000 | - | - | 1.0 |",
    ]


def test_no_value_can_break_the_table(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5], params={"loss.ikd": "a|b<img>\nc"})

    row = leaderboard_markdown(leaderboard_document(sweep.folder)).splitlines()[-1]

    assert row == "| 1 | 0 | 0.5000 | a\\|b&lt;img> c |"


def test_several_objectives_have_a_column_each_and_the_front_a_star(tmp_path: Path) -> None:
    goals = [
        {"metric": "val_accuracy", "direction": "maximize"},
        {"metric": "latency", "direction": "minimize"},
    ]
    sweep = MadeSweep(tmp_path, manifest={"objective": goals})
    for number, (accuracy, latency) in enumerate([(0.9, 0.00042), (0.8, 0.00038), (0.7, 0.0005)]):
        objectives = {"val_accuracy": accuracy, "latency": latency}
        sweep.trial(number, [accuracy], objectives=objectives, params={"loss.ikd": 1.0})

    lines = leaderboard_markdown(leaderboard_document(sweep.folder)).splitlines()

    assert lines[0].startswith("**digits**: maximize last val_accuracy, minimize last latency; teacher")
    assert lines[2:] == [
        "| rank | trial | val accuracy | latency | ikd |",
        "| ---: | ---: | ---: | ---: | ---: |",
        "| 1* | 0 | 0.9000 | 0.00042 | 1.0 |",
        "| 2* | 1 | 0.8000 | 0.00038 | 1.0 |",
        "| 3 | 2 | 0.7000 | 0.0005 | 1.0 |",
        "",
        "\\* no other trial is better in one objective and worse in none",
    ]
