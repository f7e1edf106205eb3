"""One contract for all samplers, ours and Optuna's."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.chosen import CHOSEN_BY_NAME
from orchestrator.store.records import EndClass
from orchestrator.study.samplers import new_sampler
from tests.support.searching import Searcher
from tests.support.simulator import SPACE, experiment

SAMPLERS = {
    "gp": "{name: gp, options: {n_startup_trials: 3}}",
    "grid": "{name: grid}",
    "nsgaii": "{name: nsgaii, options: {population_size: 3}}",
    "qmc": "{name: qmc}",
    "random": "{name: random}",
    "tpe": "{name: tpe, options: {n_startup_trials: 3}}",
}
GRID = "{loss.ikd: {low: 0.1, high: 10.0, step: 0.9}, generator.steps: {low: 1, high: 8}}"
CONDITIONAL = (
    "{loss.ikd: {low: 0.1, high: 10.0, step: 0.9}, preset: {choices: [fixed, faithful]}, "
    "generator.steps: {low: 1, high: 8, when: {preset: fixed}}}"
)
ALL = pytest.mark.parametrize("sampler", SAMPLERS)
SLOW = {"gp": 5}  # trials that are enough to have it fit its model twice
QUICK = pytest.mark.parametrize("sampler", sorted(SAMPLERS.keys() - SLOW))
FAULTS = {1: EndClass.DIVERGED, 5: EndClass.ERROR, 6: EndClass.OUT_OF_MEMORY}


def config_for(sampler: str, *overrides: str, space: str | None = None) -> SweepConfig:
    space = space or (GRID if sampler == "grid" else SPACE)
    pruner = ["pruner.name=none"] if sampler == "gp" else []  # it looks at complete trials alone
    return experiment(f"sampler={SAMPLERS[sampler]}", *pruner, *overrides, space=space)


def rounds(sampler: str, number: int) -> range:
    return range(SLOW.get(sampler, number))


def test_the_contract_covers_every_sampler_there_is() -> None:
    assert SAMPLERS.keys() == CHOSEN_BY_NAME["sampler"].keys()


@ALL
@pytest.mark.parametrize("space", [None, CONDITIONAL], ids=["plain", "conditional"])
def test_a_study_that_is_rebuilt_suggests_what_one_that_never_stopped_does(
    sampler: str, space: str | None
) -> None:
    whole = Searcher(config_for(sampler, space=space), faults=FAULTS)
    cut = Searcher(config_for(sampler, space=space), faults=FAULTS)

    for number in rounds(sampler, 14):
        expected = whole.step(number)
        cut.study = cut.rebuilt()
        assert cut.step(number) == expected


@ALL
def test_what_is_noted_beside_a_suggestion_is_json_and_is_all_there_is(sampler: str) -> None:
    searcher = Searcher(config_for(sampler), faults=FAULTS)
    suggestions = [searcher.step(number) for number in rounds(sampler, 10)]

    rebuilt = searcher.rebuilt()
    for suggestion, before, after in zip(
        suggestions, searcher.study.study.trials, rebuilt.study.trials, strict=True
    ):
        assert json.loads(json.dumps(suggestion.system_attrs)) == suggestion.system_attrs
        assert _without_clock(before) == _without_clock(after)
    assert _attrs(searcher) == _attrs(Searcher(searcher.config, trials=searcher.trials))


def _attrs(searcher: Searcher) -> dict[str, Any]:
    study = searcher.study.study
    return dict(study._storage.get_study_system_attrs(study._study_id))


def _without_clock(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    values = {step: repr(value) for step, value in trial.intermediate_values.items()}
    attrs = {key: value for key, value in vars(trial).items() if "datetime" not in key}
    return attrs | {"_intermediate_values": values, "intermediate_values": values}


@ALL
def test_a_recorded_suggestion_is_never_asked_again(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = Searcher(config_for(sampler))
    searcher.run(rounds(sampler, 8))

    monkeypatch.setattr(optuna.Study, "ask", _never)
    rebuilt = searcher.rebuilt()

    assert [trial.params for trial in rebuilt.study.trials] == [
        trial.record.params for trial in searcher.trials
    ]


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a sampler was asked")


@QUICK
@pytest.mark.parametrize("other", ["sampler.seed=7"])
def test_another_seed_gives_other_suggestions(sampler: str, other: str) -> None:
    first = Searcher(config_for(sampler)).run(rounds(sampler, 8))
    second = Searcher(config_for(sampler, other)).run(rounds(sampler, 8))

    assert (first == second) == (sampler == "grid")


@QUICK
def test_a_sampler_that_starts_at_a_later_number_does_not_repeat_itself(sampler: str) -> None:
    searcher = Searcher(config_for(sampler))
    first, later = searcher.run(range(8)), searcher.run(range(8, 16))

    assert not any(params in first for params in later)


@QUICK
def test_how_often_other_studies_were_asked_makes_no_difference(sampler: str) -> None:
    """Nothing is shared between samplers, or kept in a module."""
    alone = Searcher(config_for(sampler)).run(rounds(sampler, 8))
    first, second = Searcher(config_for(sampler)), Searcher(config_for(sampler))

    both = [(first.step(number).params, second.step(number).params) for number in rounds(sampler, 8)]

    assert both == [(params, params) for params in alone]


@ALL
def test_absent_parameters_are_absent(sampler: str) -> None:
    searcher = Searcher(config_for(sampler, space=CONDITIONAL))
    suggestions = [searcher.step(number) for number in rounds(sampler, 12)]

    assert {suggestion.params["preset"] for suggestion in suggestions} == {"fixed", "faithful"}
    for suggestion in suggestions:
        assert ("generator.steps" in suggestion.params) == (suggestion.params["preset"] == "fixed")
        assert suggestion.distributions.keys() == suggestion.params.keys()
        assert "generator.steps" not in json.dumps(suggestion.system_attrs)


@pytest.mark.parametrize("sampler", ["nsgaii", "gp", "tpe", "random"])
def test_a_new_sampler_remembers_nothing_but_what_it_has_read_about_the_trials(sampler: str) -> None:
    config = config_for(sampler)
    searcher = Searcher(config)
    searcher.run(rounds(sampler, 10))
    used = searcher.study.search.study.sampler

    handed_on = new_sampler(config, 1, used)
    fresh = new_sampler(config, 1)

    differing = {name for name, value in vars(handed_on).items() if not _same(value, vars(fresh)[name])}
    assert differing <= {"_search_space", "_intersection_search_space", "_rows"}


def _same(one: Any, other: Any) -> bool:
    plain = (int, float, str, bool, type(None), dict, list)
    return one == other if isinstance(one, plain) else type(one) is type(other)


def test_nsgaii_keeps_its_choice_of_parents_when_a_trial_of_their_generation_ends_later() -> None:
    """Optuna notes the parents in the study alone; chosen again they would be others."""
    whole = Searcher(config_for("nsgaii", "pruner.name=none"))
    slow = whole.study.suggest(0)
    assert slow is not None
    whole.run(range(1, 5))
    parents = whole.trials[-1].record.system_attrs["NSGAIISampler:parent:"]
    assert sorted(parents) == [1, 2, 3]

    late = Searcher(config_for("nsgaii", "pruner.name=none", "sampler.seed=0"))
    late.step(0)
    whole.study.tell(0, late.trials[0])
    rebuilt = Searcher(whole.config, trials=[late.trials[0], *whole.trials])

    assert rebuilt.step(5) == whole.step(5)
    assert "NSGAIISampler:parent:" not in rebuilt.trials[-1].record.system_attrs
