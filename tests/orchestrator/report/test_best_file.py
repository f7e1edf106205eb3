"""The best parameters as an experiment file."""

from __future__ import annotations

from pathlib import Path

from orchestrator.config import apply, parse_experiment
from orchestrator.report.best_file import best_experiment
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep
from tests.support.simulator import template


def test_it_is_a_valid_experiment_that_runs_the_best_once(tmp_path: Path) -> None:
    params = {"loss.ikd": 0.25, "loss.pseudo_label": 0.5, "generator.latent_dim": 8}
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [0.2], params=params | {"loss.ikd": 0.75})
    sweep.trial(1, [0.9], params=params)

    text = best_experiment(sweep.folder)

    assert text is not None
    config = parse_experiment(text).config
    assert (config.name, config.budget.trials) == ("digits-best", 1)
    assert {path: spec.choices for path, spec in config.search.items()} == {  # type: ignore[union-attr]
        path: (value,) for path, value in params.items()
    }
    before = parse_experiment(EXPERIMENT).config
    assert apply(template(config), params) == apply(template(before), params)
    assert (config.data, config.teacher, config.confirm) == (before.data, before.teacher, before.confirm)


def test_a_long_name_stays_a_name(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path, name="a" * 64)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [0.2])

    assert parse_experiment(best_experiment(sweep.folder) or "").config.name == "a" * 59 + "-best"


def test_there_is_none_before_a_trial_is_complete(tmp_path: Path) -> None:
    assert best_experiment(MadeSweep(tmp_path).folder) is None
