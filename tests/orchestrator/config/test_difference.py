from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.config import MAY_CHANGE, Experiment, SweepConfig, changes, difference

Load = Callable[..., Experiment]


@pytest.fixture
def changed_by(load: Load) -> Callable[..., list[str]]:
    """The difference that overrides make to the valid experiment."""
    return lambda *overrides: difference(load().config, load(overrides=overrides).config)


def test_the_same_file_makes_no_difference(changed_by: Callable[..., list[str]]) -> None:
    assert changed_by() == []


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.epochs=12", "train.epochs: 9 -> 12"),
        ("name=other", "name: 'toy' -> 'other'"),
        ("search.loss.ikd.high=5", "search.loss.ikd.high: 10.0 -> 5.0"),
        ("sampler.seed=1", "sampler.seed: 0 -> 1"),
        ("objective.of=best", "objective.of: 'last' -> 'best'"),
        ("teacher.train.epochs=3", "teacher.train.epochs: 100 -> 3"),
        ("pruner.min_epochs=2", "pruner.min_epochs: 1 -> 2"),
    ],
)
def test_a_changed_field_is_a_line(changed_by: Callable[..., list[str]], override: str, line: str) -> None:
    assert changed_by(override) == [line]


@pytest.mark.parametrize(
    "override",
    [
        "search.loss.ikd.high=20",
        "search.loss.ikd.low=0.05",
        "search.loss.ikd.log=false",
        "search.generator.steps={choices: [8, 7, 6, 5, 4, 3, 2, 1, 16]}",
        "search.generator.steps={low: 1, high: 16}",
        "search.student.steps={low: 1, high: 8}",
        "search.student.arch={choices: [resnet20, resnet8]}",
    ],
)
def test_a_search_space_that_contains_the_old_one_makes_no_difference(
    changed_by: Callable[..., list[str]], override: str
) -> None:
    assert changed_by(override) == []


@pytest.mark.parametrize(
    "override",
    [
        "search.loss.ikd.low=0.2",
        "search.loss.ikd={step: 0.3, log: false}",
        "search.generator.steps={low: 1, high: 9, step: 2}",
        "search.generator.steps={low: 1, high: 7}",
        "search.generator.steps={choices: [1, 2, 3]}",
        "search.generator.steps={when: {loss.ikd_form: mse}}",
        "search.student.steps={low: 6, high: 8}",
        "search.student.arch={choices: [resnet20, resnet32]}",
    ],
)
def test_a_search_space_that_lacks_a_trial_of_the_old_one_is_another(
    changed_by: Callable[..., list[str]], override: str
) -> None:
    path = override.removeprefix("search.").partition("=")[0].removesuffix(".low")

    lines = changed_by(override)

    assert lines
    assert all(line.startswith(f"search.{path}.") for line in lines)


def test_a_grid_stays_as_it_is(load: Load) -> None:
    """Its cells are counted: in a larger grid a number names another cell, and some would never be tried."""
    grid = ["sampler.name=grid", "search.loss.ikd={choices: [1]}"]
    before, after = (
        load(overrides=grid).config,
        load(overrides=[*grid, "search.generator.steps.high=9"]).config,
    )

    assert difference(before, after) == ["search.generator.steps.high: 8 -> 9"]


def test_fields_that_only_one_side_has_are_lines_too(changed_by: Callable[..., list[str]]) -> None:
    assert changed_by("pruner.name=none", "search.generator.steps={choices: [1, 2]}") == [
        "search.generator.steps.low: 1 -> not given",
        "search.generator.steps.high: 8 -> not given",
        "search.generator.steps.log: false -> not given",
        "search.generator.steps.step: null -> not given",
        "pruner.name: 'successive_halving' -> 'none'",
        "pruner.min_epochs: 1 -> not given",
        "pruner.reduction_factor: 3 -> not given",
        "search.generator.steps.choices: not given -> [1, 2]",
    ]


@pytest.mark.parametrize(
    "override",
    [
        "budget.trials=99",
        "budget.plateau={trials: 3}",
        "confirm.top=0",
        "data.root=/elsewhere",
        "hang.seconds=1",
        "resources.cpus_per_worker=4",
        "retry.error=2",
        "storage=/elsewhere",
        "tracking.uri=http://host",
    ],
)
def test_what_changes_no_trial_may_change(changed_by: Callable[..., list[str]], override: str) -> None:
    assert changed_by(override) == []


def test_what_may_change_exists_and_decides_no_trial() -> None:
    blocks = {path.split(".")[0] for path in MAY_CHANGE}

    assert blocks <= SweepConfig.model_fields.keys()
    assert MAY_CHANGE.isdisjoint(
        {"data", "name", "objective", "pruner", "sampler", "search", "teacher", "train"}
    )


def test_a_secret_is_not_in_the_difference(load: Load) -> None:
    before = load(overrides=["teacher.checkpoint=null"]).config
    after = before.model_copy(
        update={"student": before.student.model_copy(update={"arch": "x://me:CANARY@h"})}
    )

    assert difference(before, after) == ["student.arch: 'resnet8' -> 'x://***@h'"]


def test_what_may_change_is_still_told(load: Load) -> None:
    before, after = load().config, load(overrides=["budget.hours=8", "resources.workers=2"]).config

    assert changes(before, after) == ["budget.hours: null -> 8.0", "resources.workers: 1 -> 2"]
    assert changes(before, before) == []
