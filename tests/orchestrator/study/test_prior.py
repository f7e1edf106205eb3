from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.config import SweepConfig
from orchestrator.errors import UsageError
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass, TrialState
from orchestrator.study.prior import PriorTrial, describe_prior, gather_prior, read_prior
from orchestrator.study.study import Study
from tests.support.searching import Searcher
from tests.support.simulator import Simulator, experiment, run

OLD = "{loss.ikd: {low: 0.1, high: 10.0}}"
NEW = "{loss.ikd: {low: 0.1, high: 5.0}, generator.steps: {low: 2, high: 8}}"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder with one earlier sweep, of which a trial diverged and some were pruned."""
    config = experiment("name=old", "budget.trials=12", "confirm.top=0", space=OLD)
    names = [trial.name for trial in _run(config, tmp_path / "rehearsal").trials()]
    _run(config, tmp_path / "old", Simulator(faults={names[1]: [(1, EndClass.DIVERGED)]}))
    (tmp_path / "old" / "manifest.json").write_text("{}")
    return tmp_path


def _run(config: SweepConfig, root: Path, simulator: Simulator | None = None) -> SweepFolder:
    run(config, root, simulator or Simulator())
    return SweepFolder(SweepPaths(root))


def new(*overrides: str) -> SweepConfig:
    return experiment("name=new", "start_from=[old]", *overrides, space=NEW)


def test_trials_of_an_earlier_sweep_are_known_by_todays_space_and_objective(storage: Path) -> None:
    gathered = gather_prior(new(), storage)
    old = [trial for trial in SweepFolder(SweepPaths(storage / "old")).trials() if trial.result]
    known = read_prior({"start_from": gathered})

    complete = [
        each for each in old if each.state is TrialState.COMPLETE and each.record.params["loss.ikd"] <= 5
    ]
    assert [each for each in known if each.objectives is not None] == [
        PriorTrial(
            params={"generator.steps": 6, "loss.ikd": trial.record.params["loss.ikd"]},
            objectives={"val_accuracy": trial.result.objective},  # type: ignore[union-attr,dict-item]
        )
        for trial in complete
    ]
    assert sum(gathered["sweeps"]["old"].values()) == len(old)


def test_a_trial_that_diverged_is_known_too_and_its_region_is_avoided(storage: Path) -> None:
    config = new("search.loss.ikd.high=10")
    known = read_prior({"start_from": gather_prior(config, storage)})
    diverged = [each for each in known if each.objectives is None]
    study = Study(config, known).study

    assert len(diverged) == 1
    assert [trial.state.name for trial in study.trials].count("PRUNED") == 1


def test_what_cannot_be_known_is_counted_by_reason(storage: Path) -> None:
    [line] = describe_prior(gather_prior(new("search.generator.steps.high=5"), storage))

    assert line.startswith("0 trial(s) of sweep old are known to the sampler; left out: ")
    assert "outside of the search space" in line
    assert "pruned, failed or unfinished" in line

    [line] = describe_prior(gather_prior(new("objective.metric=teacher_agreement"), storage))
    assert "without a value of an objective" in line


def test_what_was_known_at_the_start_is_plain_json_that_a_resume_reads_again(storage: Path) -> None:
    gathered = gather_prior(new(), storage)

    again = read_prior({"start_from": json.loads(json.dumps(gathered))})

    assert again == read_prior({"start_from": gathered})
    assert read_prior({}) == []


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii"])
def test_the_first_suggestion_of_a_sampler_with_prior_trials_is_no_random_one(
    storage: Path, sampler: str
) -> None:
    options = {
        "tpe": "{n_startup_trials: 3}",
        "gp": "{n_startup_trials: 2}",
        "nsgaii": "{population_size: 3}",
    }
    config = new(f"sampler={{name: {sampler}, options: {options[sampler]}}}", "search.loss.ikd.high=10")
    known = read_prior({"start_from": gather_prior(config, storage)})
    assert len(known) >= 4

    with_prior, without = Study(config, known).suggest(0), Study(config).suggest(0)

    assert with_prior is not None
    assert without is not None
    assert with_prior.params != without.params
    assert with_prior.number == 0


def test_prior_trials_do_not_count_and_nobody_is_pruned_beside_them(storage: Path) -> None:
    config = new("pruner={name: median, startup_trials: 1, min_epochs: 1}", "search.loss.ikd.high=10")
    known = read_prior({"start_from": gather_prior(config, storage)})
    study = Study(config, known)
    suggestion = study.suggest(0)

    assert suggestion is not None
    assert not study.report(0, {"epoch": 1, "val_accuracy": -1.0})
    assert len(study.pruning.studies[0].trials) == 1


def test_a_search_with_prior_trials_is_rebuilt_to_the_same_suggestions(storage: Path) -> None:
    config = new(
        "sampler={name: nsgaii, options: {population_size: 3}}", "search.loss.ikd.high=10", "pruner.name=none"
    )
    known = read_prior({"start_from": gather_prior(config, storage)})

    class Knowing(Searcher):
        def rebuilt(self) -> Study:
            study = Study(self.config, known)
            for trial in self.trials:
                study.restore(trial)
            return study

    whole, cut = Knowing(config), Knowing(config)
    for number in range(8):
        expected = whole.step(number)
        cut.study = cut.rebuilt()
        assert cut.step(number) == expected
    assert min(whole.trials[0].record.system_attrs["NSGAIISampler:parent:"]) < 0


def test_a_sweep_that_does_not_exist_is_refused_with_those_that_do(storage: Path) -> None:
    with pytest.raises(UsageError, match=r"no sweep 'odl' in .*it holds old"):
        gather_prior(experiment("start_from=[odl]"), storage)


def test_a_sweep_cannot_start_from_itself_by_another_name_either(storage: Path) -> None:
    with pytest.raises(UsageError, match="sweep old cannot start from itself"):
        gather_prior(experiment("name=old", f"start_from=['{storage}/old']"), storage)
