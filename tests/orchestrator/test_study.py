import itertools
import math
from typing import Any

import optuna
import pytest

from orchestrator.config import SweepConfig
from orchestrator.store.records import TrialState
from orchestrator.study import Study
from tests.support.simulator import SPACE, experiment

SAMPLERS = ("tpe", "random", "qmc", "grid")


GRID = "{loss.ikd: {low: 0.1, high: 10.0, step: 0.9}, generator.steps: {low: 1, high: 8}}"


def config_for(sampler: str, *overrides: str, space: str | None = None) -> SweepConfig:
    options = "{name: tpe, options: {n_startup_trials: 3}}" if sampler == "tpe" else f"{{name: {sampler}}}"
    space = space or (GRID if sampler == "grid" else SPACE)
    return experiment(f"sampler={options}", *overrides, space=space)


def value_of(params: dict[str, Any]) -> float:
    return -abs(float(params["loss.ikd"]) - 3.0) - 0.1 * int(params["generator.steps"])


def ask_and_tell(study: Study, numbers: range) -> list[dict[str, Any]]:
    asked = []
    for number in numbers:
        suggestion = study.suggest(number)
        assert suggestion is not None
        asked.append(suggestion.params)
        study.note(number, 1, value_of(suggestion.params))
        study.tell(number, TrialState.COMPLETE, value_of(suggestion.params), None)
    return asked


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_suggestion_depends_on_the_trials_before_it_and_on_nothing_else(sampler: str) -> None:
    first = ask_and_tell(Study(config_for(sampler)), range(15))

    assert ask_and_tell(Study(config_for(sampler)), range(15)) == first


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_another_seed_gives_other_suggestions(sampler: str) -> None:
    first = ask_and_tell(Study(config_for(sampler)), range(8))

    assert ask_and_tell(Study(config_for(sampler, "sampler.seed=7")), range(8)) != first


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_that_starts_at_a_later_number_does_not_repeat_itself(sampler: str) -> None:
    study = Study(config_for(sampler))
    first = ask_and_tell(study, range(8))
    later = ask_and_tell(study, range(8, 16))

    assert not any(params in first for params in later)


def test_reseeding_reaches_every_random_stream_of_a_sampler() -> None:
    """The names of Optuna's private streams are ours to watch: a new one would make resumes differ."""
    for sampler in (optuna.samplers.TPESampler(), optuna.samplers.RandomSampler()):
        streams = {name for name, part in vars(sampler).items() if hasattr(part, "rng")}
        nested = {
            name for name, part in vars(sampler).items() if isinstance(part, optuna.samplers.BaseSampler)
        }

        assert streams == {"_rng"}
        assert nested <= {"_random_sampler"}


def test_the_grid_visits_every_cell_once_and_then_says_so() -> None:
    config = config_for(
        "grid", space="{loss.ikd: {choices: [0.5, 1.0]}, generator.steps: {low: 1, high: 5, step: 2}}"
    )
    study = Study(config)

    cells = [tuple(sorted(params.items())) for params in ask_and_tell(study, range(6))]

    expected = [
        (("generator.steps", steps), ("loss.ikd", weight))
        for weight, steps in itertools.product((0.5, 1.0), (1, 3, 5))
    ]
    assert sorted(cells) == sorted(expected)
    assert study.suggest(6) is None


def test_qmc_covers_the_space_more_evenly_than_chance() -> None:
    """Of 16 Sobol points one lies in each sixteenth of every axis; random points leave some of them empty."""
    config = config_for(
        "qmc", space="{loss.ikd: {low: 0.0, high: 16.0}, generator.lr: {low: 0.001, high: 0.161}}"
    )
    points = ask_qmc(Study(config), 16)

    assert sorted(math.floor(params["loss.ikd"]) for params in points) == list(range(16))


def ask_qmc(study: Study, count: int) -> list[dict[str, Any]]:
    suggestions = [study.suggest(number) for number in range(count)]
    return [suggestion.params for suggestion in suggestions if suggestion is not None]


def test_integers_stay_integers_and_choices_stay_what_they_were() -> None:
    config = config_for(
        "tpe", space="{generator.latent_dim: {choices: [32, 64]}, generator.steps: {low: 1, high: 8}}"
    )
    suggestion = Study(config).suggest(0)

    assert suggestion is not None
    assert type(suggestion.params["generator.steps"]) is int
    assert suggestion.params["generator.latent_dim"] in (32, 64)


def test_a_report_that_was_heard_already_changes_nothing() -> None:
    study = Study(config_for("random", "pruner.name=none"))
    study.suggest(0)

    study.report(0, 1, 0.5)
    study.report(0, 1, 0.5)

    assert study.study.trials[0].intermediate_values == {1: 0.5}


def test_the_median_pruner_ends_what_is_worse_than_the_median() -> None:
    study = Study(config_for("random", "pruner={name: median, min_epochs: 1, startup_trials: 2}"))
    for number, value in enumerate((0.5, 0.6)):
        study.suggest(number)
        for epoch in (1, 2):
            assert not study.report(number, epoch, value)
        study.tell(number, TrialState.COMPLETE, value, None)
    study.suggest(2)

    assert study.report(2, 2, 0.1)
