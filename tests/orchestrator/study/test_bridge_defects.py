"""What Ray's OptunaSearch does wrong, shown on the real one, and what ours does in the same situation.

The first half of a test fails when upstream mends the defect: then it has told us so, and may go.
"""

from __future__ import annotations

import inspect
import math
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState as OptunaState
from ray.tune.execution.tune_controller import TuneController
from ray.tune.search.optuna import OptunaSearch

from orchestrator.controller.controller import Controller
from orchestrator.report.best import find_best
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.store.writer import SweepWriter
from tests.support.searching import Searcher
from tests.support.simulator import Simulator, experiment, run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

LINE = {"loss.ikd": FloatDistribution(0.1, 10.0)}


def bridge(**options: Any) -> OptunaSearch:
    settings: dict[str, Any] = {"space": LINE, "metric": "score", "mode": "max", "seed": 0} | options
    return OptunaSearch(**settings)


def step(search: OptunaSearch, name: str, *values: float, end: dict[str, float] | None = None) -> None:
    """A trial as Tune drives a searcher: results, then the last of them again as the end."""
    search.suggest(name)
    for epoch, value in enumerate(values, start=1):
        search.on_trial_result(name, {"score": value, "training_iteration": epoch})
    search.on_trial_complete(name, {"score": values[-1]} if end is None else end)


def trials_of(search: OptunaSearch) -> list[optuna.trial.FrozenTrial]:
    assert search._ot_study is not None
    trials: list[optuna.trial.FrozenTrial] = search._ot_study.trials
    return trials


def swept(tmp_path: Path, *overrides: str, **options: Any) -> Controller:
    config = experiment("confirm.top=0", "budget.trials=4", "sampler.name=random", *overrides)
    return run(config, tmp_path / "toy", Simulator(**options))


def names(tmp_path: Path) -> list[str]:
    return [trial.name for trial in SweepFolder(SweepPaths(tmp_path / "toy")).trials()]


def test_a_trial_that_is_stopped_early_is_complete_to_it_and_pruned_to_ours(tmp_path: Path) -> None:
    theirs = bridge()
    step(theirs, "a", 0.6)
    assert trials_of(theirs)[0].state is OptunaState.COMPLETE
    assert trials_of(theirs)[0].value == 0.6

    ours = swept(tmp_path, "budget.trials=8")
    folder = SweepFolder(SweepPaths(tmp_path / "toy"))
    stopped = [trial.record.number for trial in folder.trials() if trial.state is TrialState.PRUNED]
    assert stopped
    for number in stopped:
        seen = ours.study.study.trials[number or 0]
        assert seen.state is OptunaState.PRUNED
        assert seen.intermediate_values


def test_a_trial_that_ends_in_nan_runs_for_ever_to_it_and_is_avoided_by_ours() -> None:
    theirs = bridge()
    step(theirs, "a", math.nan)
    assert trials_of(theirs)[0].state is OptunaState.RUNNING

    ours = Searcher(experiment("sampler.name=random"), faults={0: EndClass.DIVERGED})
    ours.step(0)
    assert ours.study.study.trials[0].state is OptunaState.PRUNED


def test_results_of_a_resumed_trial_are_dropped_by_it_and_told_by_ours(tmp_path: Path) -> None:
    """The best trial of a sweep stayed FAIL."""
    theirs = bridge()
    theirs.suggest("a")
    theirs.on_trial_complete("a", error=True)
    theirs.on_trial_result("a", {"score": 0.99, "training_iteration": 2})
    theirs.on_trial_complete("a", {"score": 0.99})
    assert (trials_of(theirs)[0].state, trials_of(theirs)[0].value) == (OptunaState.FAIL, None)

    none = "pruner.name=none"
    swept(tmp_path, none)
    best = find_best(SweepFolder(SweepPaths(tmp_path / "toy")))
    assert best is not None
    again = tmp_path / "again"
    faults = {best.name: [(5, EndClass.ERROR)]}
    failed = swept(again, none, faults=faults)
    number = best.record.number or 0
    assert failed.study.study.trials[number].state is OptunaState.FAIL
    paths = SweepPaths(again / "toy")
    with Lease.acquire(paths.lease) as lease:
        SweepWriter(paths, lease).reopen(best.name)
    resumed = swept(again, none)
    assert resumed.study.study.trials[number].state is OptunaState.COMPLETE
    assert resumed.study.study.best_trial.number == number


def test_a_restarted_trial_is_a_key_error_to_it_and_the_same_trial_to_ours(tmp_path: Path) -> None:
    """Tune gives a restarted trial a new id, and the exception ends the sweep."""
    theirs = bridge()
    theirs.suggest("a")
    theirs.on_trial_complete("a", error=True)
    with pytest.raises(KeyError):
        theirs.on_trial_result("b", {"score": 0.5, "training_iteration": 1})

    swept(tmp_path)
    again = tmp_path / "again"
    ours = swept(again, faults={names(tmp_path)[0]: [(1, EndClass.INFRASTRUCTURE)]})
    assert len(ours.study.study.trials) == 4
    assert names(again) == names(tmp_path)


def test_two_sweeps_on_one_storage_merge_silently_in_it_and_never_in_ours(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    first, second = (
        bridge(storage=storage),
        bridge(storage=storage, space={"lr": FloatDistribution(0.0, 1.0)}),
    )
    step(first, "a", 0.5)
    step(second, "b", 0.6)
    assert [sorted(trial.params) for trial in trials_of(first)] == [["loss.ikd"], ["lr"]]

    one, other = swept(tmp_path / "one"), swept(tmp_path / "other", "name=other")
    assert one.study.study._storage is not other.study.study._storage
    assert [len(each.study.study.trials) for each in (one, other)] == [4, 4]


def test_memory_that_ran_out_is_forgotten_by_it_and_avoided_by_ours() -> None:
    """Optuna's samplers leave failed trials out: to them the region was never tried."""
    theirs = bridge()
    theirs.suggest("a")
    theirs.on_trial_complete("a", error=True)
    assert trials_of(theirs)[0].state is OptunaState.FAIL
    assert not hasattr(theirs, "set_constraint")

    ours = Searcher(experiment("sampler.name=random"), faults={0: EndClass.OUT_OF_MEMORY})
    ours.step(0)
    (trial,) = ours.study.study.trials
    assert trial.state is OptunaState.PRUNED
    assert all(excess > 0 for excess in trial.constraints.values())


def test_the_cause_of_a_failure_has_no_way_into_it_and_is_noted_by_ours() -> None:
    theirs = bridge()
    theirs.suggest("a")
    theirs.on_trial_complete("a", error=True)
    assert trials_of(theirs)[0].user_attrs == {}

    ours = Searcher(experiment("sampler.name=random"), faults={0: EndClass.HANG})
    ours.step(0)
    assert ours.study.study.trials[0].user_attrs == {"cause": "hang"}


def test_its_study_never_prunes_and_ours_prunes_by_the_pruner_of_the_file() -> None:
    theirs = bridge()
    assert isinstance(theirs._ot_study.pruner, optuna.pruners.NopPruner)

    (study,) = Searcher(experiment()).study.pruning.studies
    assert isinstance(study.pruner, optuna.pruners.SuccessiveHalvingPruner)


def test_with_several_objectives_it_hears_no_result_and_ours_prunes_on_the_one_that_is_named() -> None:
    theirs = bridge(metric=["score", "cost"], mode=["max", "min"])
    theirs.suggest("a")
    theirs.on_trial_result("a", {"score": 0.5, "cost": 1.0, "training_iteration": 1})
    assert trials_of(theirs)[0].intermediate_values == {}

    two = "objective=[{metric: val_accuracy}, {metric: generator_kl, direction: minimize}]"
    ours = Searcher(experiment(two, "prune_on=val_accuracy", "sampler.name=random"))
    ours.run(range(8))
    assert TrialState.PRUNED in {trial.state for trial in ours.trials}
    assert all(trial.values for trial in ours.study.study.trials if trial.state is OptunaState.COMPLETE)


def test_earlier_trials_with_several_objectives_are_a_type_error_to_it_and_known_to_ours() -> None:
    with pytest.raises(TypeError):
        bridge(
            metric=["score", "cost"],
            mode=["max", "min"],
            points_to_evaluate=[{"loss.ikd": 1.0}],
            evaluated_rewards=[[0.5, 1.0]],
        )

    two = "objective=[{metric: val_accuracy}, {metric: generator_kl, direction: minimize}]"
    config = experiment(two, "pruner.name=none")
    before = Searcher(config)
    before.run(range(3))
    assert [trial.values for trial in Searcher(config, trials=before.trials).study.study.trials] == [
        trial.values for trial in before.study.study.trials
    ]


def test_what_was_enqueued_is_tried_again_by_it_after_a_restart_and_once_by_ours() -> None:
    storage = optuna.storages.InMemoryStorage()
    points = [{"loss.ikd": 1.0}]
    for name in ("a", "b"):
        theirs = bridge(storage=storage, points_to_evaluate=points)
        step(theirs, name, 0.5)
    assert [trial.params["loss.ikd"] for trial in trials_of(theirs)] == [1.0, 1.0]

    ours = Searcher(experiment("enqueue=[{loss.ikd: 1.0, generator.steps: 2}]"))
    ours.step(0)
    ours.study = ours.rebuilt()
    ours.step(1)
    assert [trial.record.params["loss.ikd"] == 1.0 for trial in ours.trials] == [True, False]


def test_conditional_parameters_and_earlier_trials_do_not_go_together_in_it_and_do_in_ours() -> None:
    def by_run(trial: optuna.Trial) -> None:
        if trial.suggest_categorical("preset", ["fixed", "faithful"]) == "fixed":
            trial.suggest_float("loss.ikd", 0.1, 10.0)

    with pytest.raises(TypeError, match="Define-by-run"):
        bridge(space=by_run, points_to_evaluate=[{"preset": "faithful"}], evaluated_rewards=[0.5])

    space = "{preset: {choices: [fixed, faithful]}, loss.ikd: {low: 0.1, high: 10, when: {preset: fixed}}}"
    before = Searcher(experiment("pruner.name=none", space=space))
    before.run(range(6))
    rebuilt = Searcher(before.config, trials=before.trials)
    assert rebuilt.step(6).params == before.step(6).params


def test_what_it_saves_is_a_pickle_of_all_it_knows_and_ours_saves_nothing(tmp_path: Path) -> None:
    theirs = bridge()
    step(theirs, "a", 0.5)
    theirs.save(str(tmp_path / "searcher.pkl"))
    saved = pickle.loads((tmp_path / "searcher.pkl").read_bytes())  # noqa: S301
    assert isinstance(saved["_ot_study"], optuna.Study)

    swept(tmp_path)
    kinds = {path.suffix for path in (tmp_path / "toy").rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ""}


def test_rays_asha_begins_again_from_nothing_after_a_restart_and_ours_from_the_histories() -> None:
    """Its rungs live in the object, and Tune leaves the scheduler out of what it saves."""
    left_out = inspect.getsource(TuneController.__getstate__)
    assert '"_scheduler_alg"' in left_out

    ours = Searcher(experiment("sampler.name=random"))
    ours.run(range(6))
    before = [trial.system_attrs for trial in ours.study.pruning.studies[0].trials]
    assert any(before)
    assert [trial.system_attrs for trial in ours.rebuilt().pruning.studies[0].trials] == before


def test_a_suggestion_that_was_tried_before_runs_again_in_it_and_returns_at_once_in_ours(
    tmp_path: Path,
) -> None:
    theirs = bridge(space={"steps": optuna.distributions.IntDistribution(1, 2)})
    suggested = [str(theirs.suggest(str(number))) for number in range(4)]
    assert len(set(suggested)) < len(suggested)

    config = experiment(
        "budget.trials=4",
        "sampler.name=random",
        "confirm.top=0",
        space="{generator.steps: {low: 1, high: 2}}",
    )
    simulator = Simulator()
    run(config, tmp_path / "toy", simulator)
    assert len({(name, epoch) for name, _, epoch in simulator.epochs_run}) == len(simulator.epochs_run)
    assert len(SweepFolder(SweepPaths(tmp_path / "toy")).duplicates()) >= 2
