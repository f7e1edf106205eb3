from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import Experiment
from orchestrator.config.conditions import find_circle, in_order, is_active, never_active
from orchestrator.config.search import Choices

Load = Callable[..., Experiment]
NAMES = ("a", "b", "c", "d")

SPACES = st.fixed_dictionaries(
    {
        name: st.dictionaries(
            st.sampled_from(NAMES), st.sets(st.integers(0, 1), min_size=1).map(tuple), max_size=2
        ).map(lambda when: Choices(choices=(0, 1), when=when))
        for name in NAMES
    }
)


@given(SPACES)
def test_parameters_are_in_order_unless_their_conditions_go_round_in_a_circle(
    search: dict[str, Choices],
) -> None:
    circles = [name for name in search if find_circle(search, name)]
    if circles:
        for name in circles:
            way = find_circle(search, name) or []
            assert way[0] == way[-1] == name
            assert all(after in search[before].when for before, after in pairwise(way))
        with pytest.raises(ValueError, match="round in a circle"):
            in_order(search)
        return
    order = in_order(search)
    assert sorted(order) == sorted(search)
    for name in order:
        assert all(order.index(parent) < order.index(name) for parent in search[name].when)


@given(SPACES)
def test_a_parameter_can_exist_exactly_if_it_does_in_some_trial(search: dict[str, Choices]) -> None:
    if any(find_circle(search, name) for name in search):
        return
    seen: set[str] = set()
    for values in product((0, 1), repeat=len(NAMES)):
        params: dict[str, int] = {}
        for name, value in zip(in_order(search), values, strict=True):
            if is_active(search, name, params):
                params[name] = value
        seen |= params.keys()

    assert {name for name in search if never_active(search, name) is None} == seen


def test_conditions_that_meet_again_and_again_are_followed_once() -> None:
    search = {f"p{n}": Choices(choices=(1,), when={f"p{n + 1}": (1,), f"p{n + 2}": (1,)}) for n in range(60)}
    search |= {"p60": Choices(choices=(1,)), "p61": Choices(choices=(1,))}

    assert never_active(search, "p0") is None
    assert find_circle(search, "p0") is None


def test_conditions_are_relative_to_train_and_may_be_one_value_or_several(load: Load) -> None:
    config = load(
        overrides=[
            "search.loss.ikd.when={train.method: cpsc}",
            "search.student.lr={low: 0.1, high: 0.2, when: {generator.steps: [1, 2]}}",
            "search.student.momentum={choices: [0.5], when: {loss.temperature: 1}}",
            "train.loss.temperature=1",
        ]
    ).config

    assert config.search["loss.ikd"].when == {"method": ("cpsc",)}
    assert config.search["student.lr"].when == {"generator.steps": (1, 2)}
    assert config.search["student.momentum"].when == {"loss.temperature": (1.0,)}


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (
            {"generator.steps": "{student.steps: 1}", "student.steps": "{generator.steps: 1}"},
            "goes round in a circle: generator.steps needs student.steps needs generator.steps",
        ),
        (
            {
                "generator.steps": "{student.steps: 1, batch_size: 2}",
                "student.steps": "{batch_size: 3}",
                "batch_size": "{}",
            },
            "can never hold: it would need batch_size to have two values at once",
        ),
    ],
)
def test_conditions_that_cannot_hold_together_are_refused(
    refusal: Callable[..., list[str]], conditions: dict[str, str], said: str
) -> None:
    overrides = [f"search.{path}={{low: 1, high: 8, when: {when}}}" for path, when in conditions.items()]
    overrides = [each.replace("low: 1", "low: 2") if "batch_size=" in each else each for each in overrides]

    lines = refusal(overrides=overrides)

    assert lines[0].endswith(f"search.generator.steps.when: {said}")


def test_a_condition_on_a_parameter_that_could_not_be_read_is_not_told_as_well(
    refusal: Callable[..., list[str]],
) -> None:
    [line] = refusal(
        overrides=["search.generator.steps={high: many}", "search.loss.ikd.when={generator.steps: 2}"]
    )

    assert "search.generator.steps.high: must be" in line
