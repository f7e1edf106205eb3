from __future__ import annotations

from collections.abc import Callable

import pytest

from cpsc_core.errors import SettingsError
from cpsc_core.settings import TrainSettings
from orchestrator.config import Choices, Experiment, Range, resolve
from orchestrator.config.search import FIELDS, SPEC_KEYS, FloatRange, IntRange, field_kind

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
    config = load().config

    train = resolve(config, {"loss.ikd": 3, "generator.steps": 4.0, "loss.ikd_form": "log_mse"})

    assert (train.loss.ikd, train.generator.steps, train.loss.ikd_form) == (3.0, 4, "log_mse")
    assert (type(train.loss.ikd), type(train.generator.steps)) == (float, int)
    assert train.epochs == config.train.epochs


def test_nothing_searched_is_the_fixed_part(load: Load) -> None:
    config = load().config

    assert resolve(config, {}) == config.train
    assert isinstance(resolve(config, {}), TrainSettings)


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
        resolve(load().config, params)
