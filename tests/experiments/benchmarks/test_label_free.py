import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpsc_core.attempt import append_line
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "label_free.py"


def run(*arguments: str | Path, code: int = 0) -> str:
    ran = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


@pytest.fixture
def made(tmp_path: Path) -> MadeSweep:
    made = MadeSweep(tmp_path)
    for number, (truth, loss) in enumerate([(0.2, 0.8), (0.5, 0.6), (0.9, 0.1), (0.4, 0.5)]):
        name = made.trial(number, [truth / 2])
        line = {"teacher_agreement": truth**2, "student_kl": loss, "label_fidelity": 0.5, "final": True}
        attempt = made.paths.trial(name).attempt(1)
        append_line(attempt.metrics, {"epoch": 2, "seconds": 2.0, "val_accuracy": truth, **line})
    made.trial(None, [1.0], test=1.0)
    made.trial(4, [0.0], state=TrialState.PRUNED)
    return made


def test_each_label_free_figure_is_correlated_with_the_truth(made: MadeSweep) -> None:
    document = json.loads(run(made.paths.root, "--json"))

    rankings = {each["metric"]: each for each in document["rankings"]}
    assert (document["trials"], document["best"]) == (4, 0.9)
    assert list(rankings) == ["teacher_agreement", "student_kl", "label_fidelity"]
    assert rankings["teacher_agreement"]["rho"] == pytest.approx(1.0)
    assert rankings["student_kl"]["rho"] == pytest.approx(0.8)  # ranks 1 2 4 3 against 1 3 4 2
    assert rankings["label_fidelity"]["rho"] is None
    assert [rankings[metric]["picks"] for metric in ("teacher_agreement", "student_kl")] == [0.9, 0.9]
    assert "teacher_agreement" in run("digits", "--storage", made.storage)


def test_a_sweep_with_too_few_trials_is_refused(tmp_path: Path) -> None:
    made = MadeSweep(tmp_path)
    made.trial(0, [0.5])

    assert "digits has 1 complete trials, but 4 are needed to rank them" in run(made.paths.root, code=2)
