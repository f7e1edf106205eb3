from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpsc_core.card import TeacherCard
from orchestrator.config import Experiment, parse_experiment
from orchestrator.errors import UsageError
from orchestrator.manifest import begin_run, note_teacher
from tests.support.simulator import EXPERIMENT, SPACE

CARD = TeacherCard(
    key="k",
    arch="resnet20",
    num_classes=10,
    sha256="a" * 64,
    accuracy=0.99,
    test_accuracy=0.98,
    data="digits",
    data_fingerprint="f" * 64,
    splits={"val": {"images": 7, "rows_sha256": "r"}},
    mean=(0.3,),
    std=(0.3,),
    training=None,
    probe_share=1.0,
    versions={},
)


@pytest.fixture
def toy() -> Experiment:
    return parse_experiment(EXPERIMENT.replace("SPACE", SPACE))


def begin(before: dict[str, Any], toy: Experiment, generation: int, add_trials: int = 0) -> dict[str, Any]:
    return begin_run(before, toy, name="toy", generation=generation, add_trials=add_trials)


def test_where_a_sweep_came_from_stays_and_every_run_is_noted(toy: Experiment, tmp_path: Path) -> None:
    first = note_teacher(begin({}, toy, 1), CARD)
    again = begin(first, replace(toy, path=tmp_path / "elsewhere.yaml"), 2)

    assert [run["generation"] for run in again["runs"]] == [1, 2]
    for kept in ("created", "git", "teacher", "data"):
        assert again[kept] == first[kept]
    assert again["generation"] == 2
    assert again["finished"] is None


def test_added_trials_add_up_over_runs(toy: Experiment) -> None:
    manifest = begin(begin(begin({}, toy, 1), toy, 2, add_trials=3), toy, 3, add_trials=4)

    assert manifest["budget_trials"] == toy.config.budget.trials + 7


@pytest.mark.parametrize(("field", "what"), [("sha256", "teacher"), ("data_fingerprint", "data set")])
def test_a_sweep_does_not_go_on_with_another_teacher_or_data_set(
    toy: Experiment, field: str, what: str
) -> None:
    manifest = note_teacher(begin({}, toy, 1), CARD)

    note_teacher(manifest, CARD)
    with pytest.raises(UsageError, match=f"the {what} of sweep toy has changed .* another name"):
        note_teacher(manifest, replace(CARD, **{field: "b" * 64}))
