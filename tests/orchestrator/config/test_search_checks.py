from __future__ import annotations

from collections.abc import Callable

import pytest

from cpsc_core.limits import field_limits
from orchestrator.config import Experiment
from orchestrator.config.search import FIELDS, NOT_SEARCHED, field_kind

NUMBERS = [path for path in FIELDS if field_kind(path) in (int, float) and path not in NOT_SEARCHED]


@pytest.mark.parametrize("path", NUMBERS)
def test_bounds_beyond_the_limits_of_any_number_of_train_are_refused(
    refusal: Callable[..., list[str]], path: str
) -> None:
    kind, limits = field_kind(path), field_limits(FIELDS[path])
    low, high = limits[0] - 1, min(limits[1] + 1, 1e6)

    lines = refusal(overrides=[f"search={{{path}: {{low: {kind(low)}, high: {kind(high)}}}}}"])

    assert any(line.startswith(f"--set search: search.{path}.low: must be") for line in lines)


def test_ends_that_lie_on_the_limits_are_in_the_space(load: Callable[..., Experiment]) -> None:
    config = load(
        overrides=["search.loss.ikd={low: 0, high: 1e6, log: false}", "search.generator.steps.high=2"]
    ).config

    assert (config.search["loss.ikd"].low, config.search["generator.steps"].high) == (0.0, 2)


def test_steps_are_counted_in_the_decimal_numbers_of_the_file(load: Callable[..., Experiment]) -> None:
    config = load(overrides=["search.loss.ikd={low: 0.1, high: 0.7, step: 0.1, log: false}"]).config

    assert config.search["loss.ikd"].step == 0.1
