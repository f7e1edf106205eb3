from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from orchestrator.errors import ConfigError
from orchestrator.store.records import EndClass, TrialState
from tests.support.searching import Searcher, made_trial, result_of
from tests.support.simulator import experiment, template

TWO = "objective=[{metric: val_accuracy}, {metric: latency, direction: minimize}]"
THREE_KINDS = {0: EndClass.DIVERGED, 1: EndClass.ERROR, 2: EndClass.OUT_OF_MEMORY}


def cost(params: Mapping[str, Any]) -> dict[str, float]:
    steps = float(params.get("generator.steps", 4))
    return {"latency": 0.001 * steps, "student_parameters": 1000.0, "peak_memory_gb": steps}


def searcher(*overrides: str, **options: Any) -> Searcher:
    return Searcher(experiment("pruner.name=none", *overrides), costs=cost, **options)


def test_integers_stay_integers_and_choices_stay_what_they_were() -> None:
    config = experiment(
        space="{generator.latent_dim: {choices: [32, 64]}, generator.steps: {low: 1, high: 8}, "
        "student.arch: {choices: [resnet8, resnet20]}}"
    )
    suggestion = Searcher(config).step(0)

    assert type(suggestion.params["generator.steps"]) is int
    assert suggestion.params["generator.latent_dim"] in (32, 64)
    assert suggestion.params["student.arch"] in ("resnet8", "resnet20")


def test_a_complete_trial_is_told_with_every_objective() -> None:
    seen = searcher(TWO)
    suggestion = seen.step(0)

    (trial,) = seen.study.study.trials
    assert trial.state is OptunaState.COMPLETE
    assert trial.values == [
        seen.trials[0].result.objectives["val_accuracy"],  # type: ignore[union-attr]
        0.001 * suggestion.params["generator.steps"],
    ]
    assert trial.intermediate_values == {}


def test_failures_are_told_so_that_their_regions_are_avoided() -> None:
    seen = searcher("sampler.name=random", faults=THREE_KINDS)
    seen.run(range(4))

    diverged, failed, exhausted, complete = seen.study.study.trials
    assert [each.state.name for each in (diverged, failed, exhausted)] == ["PRUNED", "FAIL", "PRUNED"]
    assert all(math.isnan(value) for value in diverged.intermediate_values.values())
    assert diverged.value is None
    assert exhausted.constraints == {"peak_memory_gb": 1.0}
    assert [each.user_attrs.get("cause") for each in (diverged, failed, exhausted, complete)] == [
        "diverged",
        "error",
        "out_of_memory",
        None,
    ]


def test_memory_that_ran_out_violates_the_constraint_on_it() -> None:
    bounds = "constraints=[peak_memory_gb <= 6, latency <= 0.005]"
    seen = searcher("sampler.name=random", bounds, faults={0: EndClass.OUT_OF_MEMORY})
    seen.run(range(2))

    exhausted, complete = seen.study.study.trials
    steps = seen.trials[1].record.params["generator.steps"]
    assert exhausted.constraints == {"peak_memory_gb <= 6": 1.0}
    assert complete.constraints == {
        "peak_memory_gb <= 6": pytest.approx(steps / 6 - 1),
        "latency <= 0.005": pytest.approx(steps / 5 - 1),
    }


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_a_sampler_learns_to_keep_constraints(sampler: str) -> None:
    """Accuracy rises with the steps here, so without the constraint the search goes where it is broken."""
    options = {"tpe": "{n_startup_trials: 8}", "nsgaii": "{population_size: 6}"}[sampler]
    choice = f"sampler={{name: {sampler}, options: {options}}}"

    def steep(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        return {"val_accuracy": params["generator.steps"] / 10.0 + epoch / 1e3, "generator_kl": 0.0}

    free = searcher(choice, curve=steep).run(range(40))
    bound = searcher(choice, "constraints=[peak_memory_gb <= 4]", curve=steep).run(range(40))

    broken = [sum(params["generator.steps"] > 4 for params in run[20:]) for run in (free, bound)]
    assert broken[0] > 12
    assert broken[1] < broken[0] / 2


def test_with_several_objectives_a_pruned_trial_ranks_by_how_far_it_came_and_a_diverged_one_last() -> None:
    seen = searcher(TWO, "sampler.name=random", faults={0: EndClass.DIVERGED})
    seen.run(range(1))
    for number, epoch in ((1, 2), (2, 5)):
        _prune(seen, number, epoch)

    ranked = sorted(seen.study.study.trials, key=_tpe_score)
    assert [trial.number for trial in ranked] == [2, 1, 0]


def _prune(seen: Searcher, number: int, epoch: int) -> None:
    suggestion = seen.study.suggest(number)
    assert suggestion is not None
    lines = [{"epoch": each, "val_accuracy": 0.5, "generator_kl": 0.1} for each in range(1, epoch + 1)]
    result = result_of(seen.config, suggestion.params, lines, state=TrialState.PRUNED)
    seen.study.tell(number, made_trial(suggestion, template(seen.config), lines, result))


def _tpe_score(trial: optuna.trial.FrozenTrial) -> tuple[float, float]:
    from optuna.samplers._tpe.sampler import _get_pruned_trial_score

    study = optuna.create_study(directions=["maximize", "minimize"])
    return _get_pruned_trial_score(trial, study)


@pytest.mark.parametrize("sampler", ["gp", "nsgaii", "random", "tpe"])
@pytest.mark.parametrize("bounds", ["[]", "[peak_memory_gb <= 5]"], ids=["free", "bound"])
def test_several_objectives_are_searched_and_rebuilt_to_the_same(sampler: str, bounds: str) -> None:
    options = {
        "gp": "{n_startup_trials: 3}",
        "nsgaii": "{population_size: 3}",
        "tpe": "{n_startup_trials: 3}",
    }
    overrides = [
        TWO,
        f"constraints={bounds}",
        f"sampler={{name: {sampler}, options: {options.get(sampler, '{}')}}}",
    ]
    faults = {1: EndClass.DIVERGED, 2: EndClass.OUT_OF_MEMORY}
    whole, cut = searcher(*overrides, faults=faults), searcher(*overrides, faults=faults)

    for number in range(5 if sampler == "gp" else 10):
        expected = whole.step(number)
        cut.study = cut.rebuilt()
        assert cut.step(number) == expected


def test_what_is_enqueued_is_tried_first_and_the_rest_of_it_is_chosen_by_the_sampler() -> None:
    queue = "enqueue=[{loss.ikd: 2, generator.steps: 3}, {train.generator.steps: 5}]"
    seen = searcher(queue)
    first, second, third = seen.run(range(3))

    assert first == {"loss.ikd": 2.0, "generator.steps": 3}
    assert second["generator.steps"] == 5
    assert 0.1 <= second["loss.ikd"] <= 10.0
    assert third == searcher().run(range(3))[2]


def test_an_enqueued_choice_decides_which_parameters_exist() -> None:
    space = "{preset: {choices: [fixed, faithful]}, loss.ikd: {low: 0.1, high: 10, when: {preset: faithful}}}"
    config = experiment("enqueue=[{preset: faithful, loss.ikd: 3}, {preset: fixed}]", space=space)

    assert Searcher(config).run(range(2)) == [{"preset": "faithful", "loss.ikd": 3.0}, {"preset": "fixed"}]


def test_more_is_enqueued_than_is_tried_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"enqueue: has 2 entries, but budget\.trials allows 1"):
        experiment("enqueue=[{loss.ikd: 2}, {loss.ikd: 3}]", "budget.trials=1")


@pytest.mark.parametrize(
    ("overrides", "together", "group"),
    [
        ([], True, False),
        (["search.loss.ikd.when={generator.steps: 1}"], True, True),
        (["search.loss.ikd.when={generator.steps: 1}", "sampler.options={group: false}"], True, False),
        (["search.loss.ikd.when={generator.steps: 1}", TWO], False, False),
        (["sampler.options={group: true}", TWO], True, True),
        (["sampler.options={multivariate: false}"], False, False),
    ],
)
def test_tpe_chooses_together_what_is_tried_together(
    overrides: list[str], together: bool, group: bool
) -> None:
    seen = searcher(*overrides)
    seen.step(0)
    sampler = seen.study.study.sampler

    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._group) == (together, group)


def test_a_trial_of_a_narrower_space_keeps_its_place_in_a_wider_one() -> None:
    """One that was not searched before has the value it was fixed at."""
    narrow = Searcher(experiment("pruner.name=none"))
    narrow.run(range(5))
    wide = experiment(
        "pruner.name=none",
        space="{loss.ikd: {low: 0.05, high: 20.0}, generator.steps: {low: 1, high: 9}, "
        "student.steps: {low: 1, high: 8}, student.arch: {choices: [resnet20, resnet8]}}",
    )

    rebuilt = Searcher(wide, trials=narrow.trials)

    for trial, before in zip(rebuilt.study.study.trials, narrow.trials, strict=True):
        assert trial.params == before.record.params | {"student.steps": 5, "student.arch": "resnet8"}
        assert trial.values == [before.result.objective]  # type: ignore[union-attr]
    assert rebuilt.step(5).params.keys() == wide.search.keys()


def test_absent_parameters_are_no_part_of_what_other_processes_would_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Optuna's tpe notes values for all groups, and counts a running trial in groups it is not part of."""
    space = (
        "{preset: {choices: [fixed, faithful]}, generator.steps: {low: 1, high: 8, when: {preset: fixed}}}"
    )
    seen = Searcher(experiment("pruner.name=none", "sampler={options: {n_startup_trials: 2}}", space=space))
    for number in range(12):
        suggestion = seen.step(number)
        assert not any("relative_params" in key for key in suggestion.system_attrs)
        assert json.dumps(suggestion.system_attrs) == "{}"
