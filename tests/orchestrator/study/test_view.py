"""A sweep's search as an Optuna study that people look at."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import optuna
import pytest

from cpsc_core.attempt import write_json
from orchestrator.store.records import Duplicate, TrialState
from orchestrator.study.view import figures_page, importances, study_of
from tests.support.folders import MadeSweep

DISTRIBUTION = json.dumps(
    {"name": "FloatDistribution", "attributes": {"step": None, "low": 0.0, "high": 9.0, "log": False}}
)


def add(sweep: MadeSweep, number: int, values: list[float], **given: object) -> str:
    """A trial whose record has its distribution, as those of a real search have."""
    params = {"loss.ikd": float(number % 9), "loss.contrastive": random.Random(number).random()}
    name = sweep.trial(number, values, params=params, **given)  # type: ignore[arg-type]
    path = sweep.paths.trial(name).record
    record = json.loads(path.read_text())
    write_json(path, record | {"distributions": dict.fromkeys(params, DISTRIBUTION)})
    return name


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    add(sweep, 0, [0.5, 0.6])
    add(sweep, 1, [0.2], state=TrialState.PRUNED)
    add(sweep, 2, [0.1], state=TrialState.FAILED, cause="hang")
    add(sweep, 3, [0.9, math.nan], state=None)
    sweep.trial(None, [0.7], seed=1)
    return sweep


def test_trials_have_their_states_values_and_histories(sweep: MadeSweep) -> None:
    study = study_of(sweep.folder)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert study.best_value == 0.6
    assert study.best_trial.user_attrs["trial"] == f"{0:012x}"
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.6}
    assert study.trials[2].user_attrs["cause"] == "hang"


def test_a_suggestion_that_named_a_trial_again_has_what_that_came_to(sweep: MadeSweep) -> None:
    duplicate = Duplicate(
        number=4,
        name=f"{0:012x}",
        params={"loss.ikd": 0.0},
        distributions={"loss.ikd": DISTRIBUTION},
        system_attrs={},
        generation=1,
    )
    sweep.paths.duplicates.mkdir()
    write_json(sweep.paths.duplicate(4), duplicate.to_dict())

    study = study_of(sweep.folder)

    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert study.trials[4].value == 0.6


def test_optuna_can_go_on_from_it(sweep: MadeSweep) -> None:
    study = study_of(sweep.folder)

    asked = study.ask({"loss.ikd": optuna.distributions.FloatDistribution(0.0, 9.0)})

    assert 0.0 <= asked.params["loss.ikd"] <= 9.0


def test_the_parameter_that_decides_is_the_important_one(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    for number in range(30):
        add(sweep, number, [float(number % 9)])

    found = importances(study_of(sweep.folder))

    assert next(iter(found)) == "loss.ikd"
    assert sum(found.values()) == pytest.approx(1.0)


def test_few_trials_or_equal_ones_say_nothing_about_importance(sweep: MadeSweep, tmp_path: Path) -> None:
    same = MadeSweep(tmp_path / "same")
    for number in range(5):
        add(same, number, [0.5])

    assert importances(study_of(sweep.folder)) == {}
    assert importances(study_of(same.folder)) == {}


def test_the_figures_are_one_page_that_loads_nothing(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    for number in range(6):
        add(sweep, number, [0.1 * number, 0.15 * number])

    page = figures_page(study_of(sweep.folder))

    assert page is not None
    assert page.count("plotly-graph-div") == 5
    assert len(page) < 7_000_000
    assert '<script src="http' not in page


def test_there_are_no_figures_before_a_trial_is_complete(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    add(sweep, 0, [0.5], state=TrialState.PRUNED)

    assert figures_page(study_of(sweep.folder)) is None


def test_one_complete_trial_has_figures(sweep: MadeSweep) -> None:
    assert figures_page(study_of(sweep.folder)) is not None


def test_trials_of_a_space_that_became_wider_are_compared_in_the_wider_one(sweep: MadeSweep) -> None:
    for number in range(4, 12):
        add(sweep, number, [0.1 * number])
    wider = json.loads(DISTRIBUTION)
    wider["attributes"]["high"] = 20.0
    path = sweep.paths.trial(f"{11:012x}").record
    write_json(path, json.loads(path.read_text()) | {"distributions": {"loss.ikd": json.dumps(wider)}})

    study = study_of(sweep.folder)

    assert {trial.distributions["loss.ikd"].high for trial in study.trials} == {20.0}
    assert "loss.ikd" in importances(study)
