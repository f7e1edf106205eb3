from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.shape import Shape
from orchestrator.config import Experiment, parse_experiment
from orchestrator.errors import UsageError
from orchestrator.manifest import (
    begin_run,
    drift,
    extend_budget,
    gpus_before,
    note_shape,
    note_teacher,
    search_opened,
)
from tests.support.cards import CARD
from tests.support.simulator import EXPERIMENT, SPACE


@pytest.fixture
def toy() -> Experiment:
    return parse_experiment(EXPERIMENT.replace("SPACE", SPACE))


def begin(before: dict[str, Any], toy: Experiment, generation: int, add_trials: int = 0) -> dict[str, Any]:
    return extend_budget(begin_run(before, toy, name="toy", generation=generation), add_trials)


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


def test_a_budget_that_is_set_anew_counts_from_there(toy: Experiment) -> None:
    budget = toy.config.budget.model_copy(update={"trials": 50})
    anew = replace(toy, config=toy.config.model_copy(update={"budget": budget}))
    manifest = begin(begin({}, toy, 1, add_trials=3), anew, 2)

    assert manifest["budget_trials"] == 50
    assert begin(manifest, anew, 3, add_trials=4)["budget_trials"] == 54


ALONE = Shape(workers=1, cpus=1, gpus=0.0)


def after(before: dict[str, Any], shape: Shape, **newest: Any) -> dict[str, Any]:
    """A manifest with another run, and what is to be different about it."""
    runs = before.get("runs", [])
    run = {
        "generation": len(runs) + 1,
        "versions": {"torch": "2.14.1"},
        "code": {"commit": "a" * 40, "dirty": False},
    }
    return note_shape({"runs": [*runs, run | newest]}, shape)


def test_nothing_drifts_in_a_first_run_and_in_one_like_the_last(toy: Experiment) -> None:
    first = after({}, ALONE)

    assert drift(first) == []
    assert drift(after(first, ALONE)) == []
    assert drift(note_shape(begin({}, toy, 1), ALONE)) == []


@pytest.mark.parametrize(
    ("shape", "newest", "line"),
    [
        (ALONE, {"versions": {"torch": "2.15.0"}}, "torch: 2.14.1 -> 2.15.0"),
        (ALONE, {"code": {"commit": "b" * 40, "dirty": False}}, f"commit: {'a' * 12} -> {'b' * 12}"),
        (
            ALONE,
            {"code": {"commit": "a" * 40, "dirty": True}},
            f"commit: {'a' * 12} -> {'a' * 12} with changes",
        ),
        (Shape(workers=1, cpus=2, gpus=0.0), {}, "threads: 1 -> 2"),
        (Shape(workers=2, cpus=1, gpus=0.0), {}, "ranks: 1 -> 2"),
        (Shape(workers=1, cpus=1, gpus=1.0), {}, "device: cpu -> cuda"),
    ],
)
def test_what_may_change_a_number_is_told_by_name(shape: Shape, newest: dict[str, Any], line: str) -> None:
    assert drift(after(after({}, ALONE), shape, **newest)) == [line]


def test_the_gpus_of_a_trial_are_those_of_the_last_run_that_had_any(toy: Experiment) -> None:
    first = after({}, Shape(workers=2, cpus=1, gpus=0.5))
    died_early = begin(first, toy, 2)

    assert gpus_before({}, 1) == 0.0
    assert gpus_before(first, 1) == 0.0
    assert gpus_before(died_early, 3) == 1.0
    assert gpus_before(after(died_early, ALONE), 3) == 1.0


def test_the_search_was_opened_by_the_last_run_that_widened_it_or_was_allowed_more(toy: Experiment) -> None:
    first = begin({}, toy, 1)
    more = begin(first, toy, 2, add_trials=3)
    wider = begin_run(more, toy, name="toy", generation=3, changes=["search.loss.ikd.high: 10.0 -> 20.0"])
    elsewhere = begin_run(wider, toy, name="toy", generation=4, changes=["tracking.uri: null -> 'x'"])

    assert [search_opened(each) for each in ({}, first, more, wider, elsewhere)] == [0, 0, 2, 3, 3]


def test_the_folder_of_the_data_is_that_of_the_newest_run(toy: Experiment, tmp_path: Path) -> None:
    def at(root: Path | None) -> Experiment:
        return replace(
            toy,
            config=toy.config.model_copy(update={"data": toy.config.data.model_copy(update={"root": root})}),
        )

    first = note_teacher(begin({}, at(None), 1), CARD)
    moved = note_teacher(begin(first, at(tmp_path), 2), CARD)

    assert (first["data"]["root"], moved["data"]["root"]) == (None, str(tmp_path))
