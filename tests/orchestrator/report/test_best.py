from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.report.best import best_document, best_student, find_best
from orchestrator.store.records import TrialState
from tests.support.folders import URI, MadeSweep


def test_the_document_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.6])
    name = sweep.trial(1, [0.6, 0.7], params={"loss.ikd": 2.0})
    sweep.mirrored(name, {"https://other": "run-a", URI: "run-b"})

    assert best_document(sweep.folder) == {
        "trial": name,
        "number": 1,
        "params": {"loss.ikd": 2.0},
        "objective": 0.7,
        "metrics": {"epoch": 2, "val_accuracy": 0.7, "label_fidelity": 0.5},
        "teacher_accuracy": 0.97,
        "folder": str(sweep.paths.trial(name).root),
        "mlflow_run_id": "run-b",
    }


@pytest.mark.parametrize(
    ("uri", "runs", "expected"),
    [
        (URI, {}, None),
        (URI, {"https://other": "a"}, None),
        (URI + "?password=secret", {"https://other": "a", URI: "b"}, "b"),
        (None, {"https://other": "a"}, None),
    ],
)
def test_a_run_is_only_named_if_it_is_the_sweeps_own(
    tmp_path: Path, uri: str | None, runs: dict[str, str], expected: str | None
) -> None:
    sweep = MadeSweep(tmp_path, manifest={"tracking_uri": uri})
    sweep.mirrored(sweep.trial(0, [0.6]), runs)

    assert best_document(sweep.folder)["mlflow_run_id"] == expected


def test_with_several_objectives_the_front_is_told_best_of_the_first_objective_first(tmp_path: Path) -> None:
    both = [{"metric": "val_accuracy"}, {"metric": "latency", "direction": "minimize"}]
    sweep = MadeSweep(tmp_path, manifest={"objective": both})
    names = [
        sweep.trial(number, [accuracy], objectives={"val_accuracy": accuracy, "latency": seconds})
        for number, (accuracy, seconds) in enumerate([(0.7, 0.2), (0.9, 0.3), (0.6, 0.3), (0.5, 0.1)])
    ]

    document = best_document(sweep.folder)

    assert document["trial"] == names[1]
    assert document["objectives"] == {"val_accuracy": 0.9, "latency": 0.3}
    assert [each["number"] for each in document["front"]] == [1, 0, 3]
    assert document.keys() - {"front"} == document["front"][0].keys()


def test_a_sweep_whose_complete_trials_break_a_constraint_says_so(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.9], excess={"latency <= 1": 0.5})

    with pytest.raises(UsageError, match=r"none of the 1 complete trial\(s\) of sweep digits keeps every"):
        best_document(sweep.folder)


def test_a_sweep_without_a_complete_trial_has_no_best(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.6], state=TrialState.PRUNED)

    assert find_best(sweep.folder) is None
    with pytest.raises(
        UsageError, match=r"no trial of sweep digits is complete yet.*cpsc-orchestrate status"
    ):
        best_document(sweep.folder)


def test_the_student_lies_in_the_attempt_that_the_result_names(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    name = sweep.trial(0, [0.6])
    best = find_best(sweep.folder)
    assert best is not None

    weights = best_student(best)
    sweep.paths.trial(name).attempt(1).student.unlink()

    assert weights == sweep.paths.trial(name).attempt(1).student
    assert best_student(best) is None


def test_the_confirmed_winner_is_best(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.9], params={"loss.ikd": 1.0})
    sweep.trial(1, [0.8], params={"loss.ikd": 2.0})
    sweep.trial(None, [0.6], params={"loss.ikd": 1.0}, seed=100)
    sweep.trial(None, [0.7], params={"loss.ikd": 2.0}, seed=100)

    assert best_document(sweep.folder)["number"] == 1
