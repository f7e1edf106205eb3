from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.report.leaderboard import leaderboard_document
from orchestrator.report.leaderboard_table import render_leaderboard
from tests.support.folders import MadeSweep

WIDE = """\
digits: last val_accuracy; teacher resnet20: val 97.0 %, test 96.5 %
rank  trial  objective    best   mean5  fidelity       confirm val  confirm test    ikd  latent_dim
   1      1     0.8000  0.8000  0.7500    0.5000  0.8550 +- 0.0071        0.8000   0.25          64
   2      0     0.9000  0.9000  0.9000    0.5000                 -             -  12.35         128
"""

NARROW = """\
digits: last val_accuracy; teacher resnet20: val 97.0 %, test 96.5 %
rank  trial  objective    best   mean5  fidelity       confirm val  confirm test
   1      1     0.8000  0.8000  0.7500    0.5000  0.8550 +- 0.0071        0.8000
   2      0     0.9000  0.9000  0.9000    0.5000                 -             -

rank  trial    ikd  latent_dim
   1      1   0.25          64
   2      0  12.35         128
"""


@pytest.mark.parametrize(("width", "golden"), [(100, WIDE), (80, NARROW)])
def test_the_table_is_what_a_person_reads(tmp_path: Path, width: int, golden: str) -> None:
    sweep = MadeSweep(tmp_path)
    winner = {"loss.ikd": 0.25, "generator.latent_dim": 64}
    sweep.trial(0, [0.9], params={"loss.ikd": 12.3456, "generator.latent_dim": 128})
    sweep.trial(1, [0.7, 0.8], params=winner)
    sweep.trial(None, [0.85], params=winner, seed=100, test=0.80)
    sweep.trial(None, [0.86], params=winner, seed=101)

    assert printed(sweep, width) == golden.splitlines()


def test_several_objectives_have_a_column_each_and_the_front_a_star(tmp_path: Path) -> None:
    costs = ("student_parameters", "latency")
    three = [{"metric": "val_accuracy"}, *({"metric": each, "direction": "minimize"} for each in costs)]
    sweep = MadeSweep(tmp_path, manifest={"objective": three})
    for number, (accuracy, seconds) in enumerate([(0.7, 0.00025), (0.9, 0.003), (0.6, 0.003)]):
        objectives = {"val_accuracy": accuracy, "student_parameters": 75002.0, "latency": seconds}
        excess = {"latency <= 0.002": 0.5} if number == 1 else {}
        sweep.trial(number, [accuracy], objectives=objectives, excess=excess)

    assert printed(sweep, width=110) == [
        "digits: last val_accuracy, last student_parameters, last latency; "
        "teacher resnet20: val 97.0 %, test 96.5 %",
        "rank  trial  val accuracy  student parameters  latency    best   mean5  fidelity  ikd",
        "  1*      0        0.7000              75,002  0.00025  0.7000  0.7000    0.5000  1.0",
        "   2      2        0.6000              75,002    0.003  0.6000  0.6000    0.5000  3.0",
        "   -      1        0.9000              75,002    0.003  0.9000  0.9000    0.5000  2.0",
        "* no other trial is better in one objective and worse in none",
        "breaks a constraint: 1 (latency <= 0.002)",
    ]


def test_a_parameter_that_a_trial_does_not_have_is_a_dash(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.9], params={"method": "cpsc", "loss.ikd": 1.5})
    sweep.trial(1, [0.8], params={"method": "[other]"})

    lines = printed(sweep, width=100)

    assert [line.split()[-2:] for line in lines[1:]] == [["method", "ikd"], ["cpsc", "1.5"], ["[other]", "-"]]


def printed(sweep: MadeSweep, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(render_leaderboard(leaderboard_document(sweep.folder)))
    return [line.rstrip() for line in captured.get().splitlines()]
