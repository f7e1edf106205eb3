from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cpsc_core.errors import SettingsError
from orchestrator.config import Choices, Experiment, Range, apply, setting_at
from orchestrator.config.search import FIELDS, SPEC_KEYS, FloatRange, IntRange, field_kind
from tests.support.simulator import template

Load = Callable[..., Experiment]


@pytest.fixture
def searching(load: Load) -> Callable[[str, str], object]:
    """The entry of the search space that a text becomes for a field."""
    return lambda path, text: load(overrides=[f"search.{path}={text}"]).config.search[path]


def test_numbers_have_the_type_of_their_field(searching: Callable[[str, str], object]) -> None:
    assert searching("loss.batch_norm", "{low: 1, high: 4, step: 1}") == FloatRange(
        low=1.0, high=4.0, step=1.0
    )
    assert searching("generator.width", "{low: 1, high: 4}") == IntRange(low=1, high=4)
    assert searching("student.momentum", "{choices: [0, 0.9]}") == Choices(choices=(0.0, 0.9))
    assert searching("student.steps", "{choices: [5, 10]}") == Choices(choices=(5, 10))
    assert searching("loss.ikd_form", "{choices: [mse, log_mse]}") == Choices(choices=("mse", "log_mse"))


def test_a_float_range_holds_floats_only(searching: Callable[[str, str], object]) -> None:
    spec = searching("loss.batch_norm", "{low: 1, high: 4}")

    assert isinstance(spec, FloatRange)
    assert (type(spec.low), type(spec.high)) == (float, float)
    assert isinstance(spec, Range)


def test_the_kind_of_a_field_is_its_bare_type() -> None:
    assert field_kind("generator.steps") is int
    assert field_kind("loss.ikd") is float
    assert field_kind("method") is str
    assert field_kind("nothing") is None
    assert all(field_kind(path) is not None for path in FIELDS)


def test_no_field_is_called_like_a_key_of_an_entry() -> None:
    assert SPEC_KEYS.isdisjoint(path.split(".")[-1] for path in FIELDS)


def test_searched_parameters_are_put_into_train(load: Load) -> None:
    fixed = template(load().config)

    trial = apply(fixed, {"loss.ikd": 3, "generator.steps": 4.0, "loss.ikd_form": "log_mse"})

    train = trial.train
    assert (train.loss.ikd, train.generator.steps, train.loss.ikd_form) == (3.0, 4, "log_mse")
    assert (type(train.loss.ikd), type(train.generator.steps)) == (float, int)
    assert replace(trial, train=fixed.train) == fixed
    assert setting_at(trial, "generator.steps") == 4


def test_the_student_may_be_searched_too(load: Load) -> None:
    config = load(overrides=["search.student.arch={choices: [resnet8, resnet20]}"]).config

    trial = apply(template(config), {"student.arch": "resnet20"})

    assert config.search["student.arch"] == Choices(choices=("resnet8", "resnet20"))
    assert (trial.student_arch, setting_at(trial, "student.arch")) == ("resnet20", "resnet20")
    assert trial.identity() != template(config).identity()


def test_nothing_searched_is_the_fixed_part(load: Load) -> None:
    fixed = template(load().config)

    assert apply(fixed, {}) == fixed


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"generator.steps": 4.5}, "generator.steps must be a whole number, but is 4.5"),
        ({"loss.ikd": -1.0}, "ikd must be at least 0"),
        ({"loss.nothing": 1.0}, "LossSettings has no field 'nothing'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(load: Load, params: dict[str, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        apply(template(load().config), params)
