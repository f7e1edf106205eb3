import math
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc_core.attempt import write_json
from cpsc_core.settings import TrainSettings
from orchestrator.config import SweepConfig
from orchestrator.controller.controller import Controller
from orchestrator.ranking import front
from orchestrator.report.leaderboard import infeasible
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass, Stage, TrialState
from tests.support.played import run_killed, table, trials
from tests.support.simulator import SPACE, KilledError, Simulator, experiment, run


def study_table(controller: Controller) -> list[Any]:
    return [
        (each.number, each.state, each.params, each.value, each.intermediate_values, _rungs(each))
        for each in controller.study.study.trials
    ]


def _rungs(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.system_attrs.items() if key.startswith("completed_rung")}


def test_a_pruned_trial_is_pruned_to_optuna_with_its_intermediate_values(tmp_path: Path) -> None:
    controller = run(experiment(), tmp_path / "toy", Simulator())
    pruned = [trial for trial in trials(tmp_path / "toy") if trial.state is TrialState.PRUNED]

    assert pruned
    for trial in pruned:
        seen = controller.study.study.trials[trial.record.number or 0]
        assert seen.state is optuna.trial.TrialState.PRUNED
        assert seen.intermediate_values == {line["epoch"]: line["val_accuracy"] for line in trial.history}
        assert trial.result is not None
        assert trial.result.objective is None
        assert trial.result.cause is None
        assert trial.result.detail == f"pruned after epoch {trial.epoch} by successive_halving"


def test_a_complete_trial_is_complete_with_the_value_it_is_ranked_by(tmp_path: Path) -> None:
    controller = run(experiment("objective.of=mean5", "pruner.name=none"), tmp_path / "toy", Simulator())

    for trial in trials(tmp_path / "toy"):
        seen = controller.study.study.trials[trial.record.number or 0]
        mean5 = math.fsum(line["val_accuracy"] for line in trial.history[-5:]) / 5
        assert seen.state is optuna.trial.TrialState.COMPLETE
        assert seen.value == pytest.approx(mean5, abs=1e-15)
        assert seen.intermediate_values[9] == trial.history[-1]["val_accuracy"]


def test_a_failed_trial_is_fail_with_its_cause_and_a_diverged_one_pruned_with_nan(tmp_path: Path) -> None:
    config = experiment(
        "pruner.name=none", "budget.trials=3", "sampler.name=random", "retry.infrastructure=0"
    )
    names = [trial.name for trial in _suggested(config, tmp_path / "first")]
    faults = {names[0]: [(2, EndClass.DIVERGED)], names[1]: [(3, EndClass.ERROR)]}

    controller = run(config, tmp_path / "toy", Simulator(faults=faults))

    diverged, failed, complete = trials(tmp_path / "toy")
    seen = controller.study.study.trials
    assert [trial.state for trial in (diverged, failed, complete)] == ["failed", "failed", "complete"]
    assert [each.result.cause for each in (diverged, failed) if each.result] == ["diverged", "error"]
    assert seen[0].state is optuna.trial.TrialState.PRUNED
    assert all(math.isnan(value) for value in seen[0].intermediate_values.values())
    assert seen[0].intermediate_values
    assert seen[1].state is optuna.trial.TrialState.FAIL
    assert seen[1].user_attrs["cause"] == "error"
    assert [trial.record.stage for trial in trials(tmp_path / "toy", Stage.CONFIRM)] == ["confirm", "confirm"]
    assert {trial.record.params["loss.ikd"] for trial in trials(tmp_path / "toy", Stage.CONFIRM)} == {
        complete.record.params["loss.ikd"]
    }


def _suggested(config: SweepConfig, root: Path) -> list[TrialFolder]:
    run(config, root, Simulator())
    return trials(root)


def test_neither_nan_nor_a_failure_is_ever_the_best(tmp_path: Path) -> None:
    config = experiment("pruner.name=none", "budget.trials=4", "sampler.name=random")
    best = max(_suggested(config, tmp_path / "first"), key=lambda trial: trial.result.objective)  # type: ignore[union-attr,arg-type,return-value]

    controller = run(config, tmp_path / "toy", Simulator(faults={best.name: [(9, EndClass.DIVERGED)]}))

    assert controller.state.best is not None
    assert best.result is not None
    assert best.result.objective is not None
    assert controller.state.best < best.result.objective


def test_a_lost_trial_is_tried_again_and_goes_on_where_it_stood(tmp_path: Path) -> None:
    config = experiment("pruner.name=none", "budget.trials=2", "sampler.name=random", "confirm.top=0")
    lost = _suggested(config, tmp_path / "first")[0]
    simulator = Simulator(faults={lost.name: [(5, EndClass.INFRASTRUCTURE)]})

    run(config, tmp_path / "toy", simulator)

    epochs = [(attempt, epoch) for name, attempt, epoch in simulator.epochs_run if name == lost.name]
    assert epochs == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6), (2, 7), (2, 8), (2, 9)]
    assert table(tmp_path / "toy") == table(tmp_path / "first")


@pytest.mark.parametrize("kill", range(0, 100, 3))
def test_with_one_slot_a_sweep_killed_at_any_event_equals_one_never_killed(tmp_path: Path, kill: int) -> None:
    reference = run(experiment(), tmp_path / "whole", Simulator())

    controller, epochs = run_killed(experiment(), tmp_path / "toy", [kill])

    assert table(tmp_path / "toy") == table(tmp_path / "whole")
    assert study_table(controller) == study_table(reference)
    assert max(Counter((name, epoch) for name, _, epoch in epochs).values()) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 3))
def test_however_often_a_sweep_is_killed_nothing_is_lost_and_nothing_runs_twice(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], slots: int
) -> None:
    root = tmp_path_factory.mktemp("sweep") / "toy"

    controller, epochs = run_killed(experiment(), root, kills, slots)

    search = trials(root)
    assert [trial.record.number for trial in search] == list(range(10))
    assert all(trial.result is not None for trial in search)
    assert max(Counter((name, epoch) for name, _, epoch in epochs).values()) == 1
    assert len(trials(root, Stage.CONFIRM)) == 2
    assert [each.state.name for each in controller.study.study.trials] == [
        {"complete": "COMPLETE", "pruned": "PRUNED"}[trial.state] for trial in search
    ]


def test_a_finished_sweep_started_again_runs_nothing(tmp_path: Path) -> None:
    run(experiment(), tmp_path / "toy", Simulator())
    before = table(tmp_path / "toy")
    again = Simulator()

    run(experiment(), tmp_path / "toy", again)

    assert again.epochs_run == []
    assert table(tmp_path / "toy") == before


def test_more_trials_continue_the_same_search(tmp_path: Path) -> None:
    run(experiment("budget.trials=6", "confirm.top=0"), tmp_path / "toy", Simulator())
    run(experiment("budget.trials=10", "confirm.top=0"), tmp_path / "toy", Simulator())
    run(experiment("confirm.top=0"), tmp_path / "whole", Simulator())

    assert table(tmp_path / "toy") == table(tmp_path / "whole")


def test_an_attempt_that_nobody_saw_end_is_closed_and_does_not_count_as_a_failure(tmp_path: Path) -> None:
    run_killed(experiment("budget.trials=1"), tmp_path / "toy", [4])

    (trial,) = trials(tmp_path / "toy")
    assert trial.ends[1].ended is EndClass.STOPPED
    assert trial.ends[1].cause == "the controller died while it ran"
    assert trial.failures() == []


def test_a_suggestion_that_names_an_existing_trial_is_recorded_and_told_that_result(tmp_path: Path) -> None:
    config = experiment(
        "budget.trials=30",
        "sampler.name=random",
        "confirm.top=0",
        space="{generator.steps: {choices: [1, 2]}}",
    )
    controller = run(config, tmp_path / "toy", Simulator())
    folder = SweepFolder(SweepPaths(tmp_path / "toy"))

    assert len(trials(tmp_path / "toy")) == 2
    assert "space exhausted" in (controller.state.closed or "")
    by_steps = {trial.record.params["generator.steps"]: trial for trial in trials(tmp_path / "toy")}
    for duplicate in folder.duplicates():
        original = by_steps[duplicate.params["generator.steps"]]
        seen = controller.study.study.trials[duplicate.number]
        assert duplicate.name == original.name
        assert original.result is not None
        assert seen.state.name.lower() == original.state
        assert seen.value == original.result.objective or seen.value == original.history[-1]["val_accuracy"]


FEW = ("budget.trials=200", "sampler.name=random", "confirm.top=0")


def exhaust(root: Path, *overrides: str, kill_after: int | None = None) -> int:
    """How many suggestions a search in a space of two trials has asked for by its end."""
    config = experiment(*FEW, *overrides, space="{generator.steps: {choices: [1, 2]}}")
    with suppress(KilledError):
        run(config, root, Simulator(kill_after=kill_after))
    return 2 + len(SweepFolder(SweepPaths(root)).duplicates())


def test_a_search_that_has_exhausted_its_space_asks_nothing_when_it_is_given_again(tmp_path: Path) -> None:
    asked = exhaust(tmp_path / "toy")

    assert asked >= 22
    assert exhaust(tmp_path / "toy") == asked


def test_a_kill_among_the_last_suggestions_does_not_begin_their_count_anew(tmp_path: Path) -> None:
    class DyingAsker(Simulator):
        def run(self, orders: Controller) -> None:
            orders.study.suggest = self.dying(orders.study.suggest)  # type: ignore[method-assign]
            super().run(orders)

        def dying(self, suggest: Any) -> Any:
            def asked(number: int) -> Any:
                if number == 15:
                    raise KilledError
                return suggest(number)

            return asked

    config = experiment(*FEW, space="{generator.steps: {choices: [1, 2]}}")
    with pytest.raises(KilledError):
        run(config, tmp_path / "toy", DyingAsker())

    assert exhaust(tmp_path / "toy") == exhaust(tmp_path / "whole")


def test_a_search_that_was_allowed_more_trials_looks_for_others_again(tmp_path: Path) -> None:
    asked = exhaust(tmp_path / "toy")
    run_that_added = {"generation": 2, "changes": [], "added_trials": 8}
    write_json(tmp_path / "toy" / "manifest.json", {"runs": [run_that_added]})

    assert exhaust(tmp_path / "toy") == asked + 20
    assert exhaust(tmp_path / "toy") == asked + 20


def test_duplicates_survive_a_kill(tmp_path: Path) -> None:
    config = experiment(
        "budget.trials=12", "sampler.name=random", space="{generator.steps: {choices: [1, 2, 3]}}"
    )
    reference = run(config, tmp_path / "whole", Simulator())

    for kill in (3, 12, 20):
        controller, _ = run_killed(config, tmp_path / f"toy{kill}", [kill])
        assert table(tmp_path / f"toy{kill}") == table(tmp_path / "whole")
        assert [each.value for each in controller.study.study.trials] == [
            each.value for each in reference.study.study.trials
        ]


def test_a_request_to_stop_leaves_what_runs_to_be_resumed(tmp_path: Path) -> None:
    class StoppedByUser(Simulator):
        def _advance(self, orders: Controller, assignment: Any) -> bool:
            if len(self.epochs_run) == 5:
                orders.paths.stop.touch()
                orders.tick()
                orders.hear_end(assignment, EndClass.STOPPED, None, [], "here")
                return False
            return super()._advance(orders, assignment)

    root = tmp_path / "toy"
    controller = run(experiment(), root, StoppedByUser())
    assert controller.state.closed == "stopped"
    assert [trial.state for trial in trials(root)] == ["running"]
    (root / "stop").unlink()

    run(experiment(), root, Simulator())
    run(experiment(), tmp_path / "whole", Simulator())

    assert table(root) == table(tmp_path / "whole")


def test_results_hold_nothing_that_depends_on_the_clock(tmp_path: Path) -> None:
    run(experiment(), tmp_path / "toy", Simulator())

    for trial in trials(tmp_path / "toy"):
        assert trial.result is not None
        assert "seconds" not in trial.result.metrics
        assert trial.result.metrics["teacher_accuracy"] == 0.99
        assert trial.result.metrics["val_accuracy_best"] == max(
            line["val_accuracy"] for line in trial.history
        )


def test_confirm_runs_the_best_configuration_with_fresh_seeds_and_only_there_the_test_split(
    tmp_path: Path,
) -> None:
    run(experiment(), tmp_path / "toy", Simulator())
    best = max(
        (trial for trial in trials(tmp_path / "toy") if trial.result and trial.result.objective is not None),
        key=lambda trial: trial.result.objective,  # type: ignore[union-attr,arg-type,return-value]
    )
    confirmed = trials(tmp_path / "toy", Stage.CONFIRM)

    assert {trial.record.settings["train"]["seed"] for trial in confirmed} == {1, 2}
    assert all(trial.record.params == best.record.params for trial in confirmed)
    assert all(trial.record.settings["splits"] == ["val", "test"] for trial in confirmed)
    assert all(trial.record.settings["splits"] == ["val"] for trial in trials(tmp_path / "toy"))


TWO = "objective=[{metric: val_accuracy}, {metric: latency, direction: minimize}]"


def steps_cost(train: TrainSettings) -> dict[str, float]:
    steps = float(train.generator.steps)
    return {"latency": 0.001 * steps, "student_parameters": 100.0, "peak_memory_gb": steps}


def test_several_objectives_are_pruned_on_one_and_come_to_a_front(tmp_path: Path) -> None:
    config = experiment(TWO, "prune_on=val_accuracy", "budget.trials=16")
    controller = run(config, tmp_path / "toy", Simulator(costs=steps_cost))

    searched = trials(tmp_path / "toy")
    assert {trial.state for trial in searched} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in searched:
        assert trial.result is not None
        seen = controller.study.study.trials[trial.record.number or 0]
        if trial.state is TrialState.COMPLETE:
            assert seen.values == list(trial.result.objectives.values())
            assert trial.result.timing["latency"] == trial.result.objectives["latency"]
            assert trial.result.metrics["student_parameters"] == 100.0
            assert trial.result.metrics.keys().isdisjoint({"latency", "peak_memory_gb"})
        else:
            assert (seen.state.name, seen.values) == ("PRUNED", None)
    best = front(searched, config.objectives)
    confirmed = {str(trial.record.params) for trial in trials(tmp_path / "toy", Stage.CONFIRM)}
    assert confirmed == {str(best[0].record.params)}


@pytest.mark.parametrize("kill", [7, 23, 41])
def test_several_objectives_survive_a_kill_to_the_same_table(tmp_path: Path, kill: int) -> None:
    config = experiment(TWO, "prune_on=val_accuracy", "constraints=[peak_memory_gb <= 5]")
    reference = run(config, tmp_path / "whole", Simulator(costs=steps_cost))

    with suppress(KilledError):
        run(config, tmp_path / "toy", Simulator(costs=steps_cost, kill_after=kill))
    controller = run(config, tmp_path / "toy", Simulator(costs=steps_cost))

    assert table(tmp_path / "toy") == table(tmp_path / "whole")
    assert [
        (each.state, each.params, each.values, each.constraints) for each in controller.study.study.trials
    ] == [(each.state, each.params, each.values, each.constraints) for each in reference.study.study.trials]


def test_a_trial_that_breaks_a_constraint_is_complete_and_never_the_best(tmp_path: Path) -> None:
    config = experiment("constraints=[peak_memory_gb <= 4]", "pruner.name=none", "sampler.name=random")
    controller = run(config, tmp_path / "toy", Simulator(costs=steps_cost))

    searched = trials(tmp_path / "toy")
    broken = [trial for trial in searched if trial.record.params["generator.steps"] > 4]
    assert broken
    assert all(trial.state is TrialState.COMPLETE for trial in searched)
    assert {trial.name for trial in broken} == {each.name for each in infeasible(searched)}
    kept = [trial.result.objective for trial in searched if trial not in broken and trial.result]
    assert controller.state.best == max(each for each in kept if each is not None)
    again = run(config, tmp_path / "toy", Simulator(costs=steps_cost))
    assert again.state.best == controller.state.best
    assert {
        trial.record.params["generator.steps"] <= 4 for trial in trials(tmp_path / "toy", Stage.CONFIRM)
    } == {True}


def test_an_objective_that_was_not_measured_is_a_failure(tmp_path: Path) -> None:
    run(experiment(TWO, "pruner.name=none", "budget.trials=1"), tmp_path / "toy", Simulator())

    (trial,) = trials(tmp_path / "toy")
    assert trial.result is not None
    assert (trial.state, trial.result.detail) == ("failed", "latency is not finite after the last epoch")


CHEAP = "objective={metric: latency, direction: minimize}"


def test_a_search_for_what_is_measured_at_the_end_alone_survives_a_kill(tmp_path: Path) -> None:
    config = experiment(CHEAP, "pruner.name=none", "budget.trials=3", "sampler.name=random")
    reference = run(config, tmp_path / "whole", Simulator(costs=steps_cost))

    with pytest.raises(KilledError):
        run(config, tmp_path / "toy", Simulator(costs=steps_cost, kill_after=7))
    controller = run(config, tmp_path / "toy", Simulator(costs=steps_cost))

    assert table(tmp_path / "toy") == table(tmp_path / "whole")
    values = [each.value for each in controller.study.study.trials]
    assert values == [each.value for each in reference.study.study.trials]
    assert values == [0.001 * trial.record.params["generator.steps"] for trial in trials(tmp_path / "toy")]


def test_enqueued_parameters_run_first_and_a_duplicate_among_them_returns_at_once(tmp_path: Path) -> None:
    queue = "enqueue=[{loss.ikd: 2, generator.steps: 3}, {loss.ikd: 2, generator.steps: 3}, {loss.ikd: 4}]"
    run(experiment(queue, "budget.trials=4"), tmp_path / "toy", Simulator())

    folder = SweepFolder(SweepPaths(tmp_path / "toy"))
    first, third, _ = trials(tmp_path / "toy")
    assert first.record.params == {"loss.ikd": 2.0, "generator.steps": 3}
    assert (third.record.number, third.record.params["loss.ikd"]) == (2, 4.0)
    assert [(each.number, each.name) for each in folder.duplicates()] == [(1, first.name)]


def test_a_search_goes_on_in_a_wider_space_with_what_it_knows(tmp_path: Path) -> None:
    narrow = experiment("budget.trials=6", "confirm.top=0")
    run(narrow, tmp_path / "toy", Simulator())
    space = f"{SPACE[:-1]}, student.steps: {{low: 1, high: 8}}}}".replace("low: 0.1", "low: 0.05")

    controller = run(
        experiment("budget.trials=10", "confirm.top=0", space=space), tmp_path / "toy", Simulator()
    )

    searched = trials(tmp_path / "toy")
    assert len(searched) == 10
    assert [each.params["student.steps"] for each in controller.study.study.trials[:6]] == [5] * 6
    assert all("student.steps" in trial.record.params for trial in searched[6:])


@pytest.mark.parametrize("ended", [EndClass.INFRASTRUCTURE, EndClass.PREEMPTED, EndClass.HANG])
def test_a_process_that_dies_after_the_last_line_takes_nothing_with_it(
    tmp_path: Path, ended: EndClass
) -> None:
    class DyingLast(Simulator):
        def _advance(self, orders: Controller, assignment: Any) -> bool:
            hear_end = orders.hear_end
            orders.hear_end = lambda assigned, how, *more: hear_end(  # type: ignore[method-assign]
                assigned, ended if how is EndClass.COMPLETE else how, *more
            )
            try:
                return super()._advance(orders, assignment)
            finally:
                del orders.hear_end

    run(experiment(), tmp_path / "toy", DyingLast())
    run(experiment(), tmp_path / "whole", Simulator())

    assert table(tmp_path / "toy") == table(tmp_path / "whole")
    assert all(trial.attempts == [1] for trial in trials(tmp_path / "toy"))


def test_a_result_names_the_attempt_that_its_metrics_come_from(tmp_path: Path) -> None:
    config = experiment(
        "pruner.name=none", "budget.trials=1", "sampler.name=random", "retry.infrastructure=1"
    )
    lost = _suggested(config, tmp_path / "first")[0]

    class DyingAgain(Simulator):
        def _open(self, assignment: Any) -> None:
            if assignment.attempt == 1:
                super()._open(assignment)

        def _advance(self, orders: Controller, assignment: Any) -> bool:
            if assignment.attempt == 1:
                return super()._advance(orders, assignment)
            orders.hear_end(assignment, EndClass.INFRASTRUCTURE, "lost", [], "here")
            return False

    run(
        config,
        tmp_path / "toy",
        DyingAgain(faults={lost.name: [(5, EndClass.INFRASTRUCTURE)]}),
    )

    (trial,) = trials(tmp_path / "toy")
    assert trial.attempts == [1, 2]
    assert trial.result is not None
    assert (trial.result.state, trial.result.attempt) == (TrialState.FAILED, 1)
    assert trial.result.metrics["epoch"] == 4
