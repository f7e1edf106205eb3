from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import pytest
from optuna.samplers import GPSampler, NSGAIISampler, TPESampler

from orchestrator.config import Experiment
from orchestrator.config.chosen import CHOSEN_BY_NAME, WRAPPED_BY_NAME, SuccessiveHalving

Load = Callable[..., Experiment]


@pytest.mark.parametrize(
    ("block", "name"), [(block, name) for block, choices in CHOSEN_BY_NAME.items() for name in choices]
)
def test_every_choice_can_be_named_in_a_file(load: Load, block: str, name: str) -> None:
    config = load(overrides=[f"{block}.name={name}", "search.loss.ikd={choices: [1]}"]).config

    assert type(getattr(config, block)) is CHOSEN_BY_NAME[block][name]


def test_options_are_given_under_the_names_of_the_library_behind(load: Load) -> None:
    options = load(overrides=["sampler.options={n_startup_trials: 3}"]).config.sampler.options

    assert dict(options) == {
        "n_startup_trials": 3,
        "n_ei_candidates": 24,
        "multivariate": None,
        "group": None,
        "constant_liar": True,
    }


@pytest.mark.parametrize("name", WRAPPED_BY_NAME)
def test_every_pruner_but_the_patient_one_can_be_wrapped_in_it(load: Load, name: str) -> None:
    config = load(overrides=[f"pruner={{name: patient, wraps: {{name: {name}}}}}"]).config

    assert type(config.pruner.wraps) is WRAPPED_BY_NAME[name]
    assert "patient" not in WRAPPED_BY_NAME


def test_options_keep_the_defaults_of_the_library_behind(load: Load) -> None:
    """So an experiment without options is what Optuna's documentation describes."""
    for name, sampler in {"tpe": TPESampler, "gp": GPSampler, "nsgaii": NSGAIISampler}.items():
        options = load(overrides=[f"sampler.name={name}"]).config.sampler.options
        defaults = {each.name: each.default for each in signature(sampler.__init__).parameters.values()}

        for option, value in options:
            if option not in ("crossover", "group"):
                assert value == defaults[option]


def test_every_choice_is_known_by_its_own_name() -> None:
    for choices in CHOSEN_BY_NAME.values():
        for name, block in choices.items():
            assert block.model_fields["name"].default == name


@pytest.mark.parametrize(
    ("first", "factor", "epochs", "rungs"),
    [(1, 3, 30, (1, 3, 9, 27)), (2, 2, 8, (2, 4)), (2, 2, 9, (2, 4, 8)), (5, 3, 5, ()), (1, 2, 2, (1,))],
)
def test_rungs_lie_before_the_last_epoch(
    first: int, factor: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    assert SuccessiveHalving(min_epochs=first, reduction_factor=factor).rungs(epochs) == rungs
