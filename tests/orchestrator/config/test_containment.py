from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.conditions import values_of
from orchestrator.config.containment import contains, holds
from orchestrator.config.search import Choices, FloatRange, IntRange, ParamSpec

INTS = st.builds(
    lambda low, steps, step: IntRange(low=low, high=low + steps * step, step=step),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
)
CHOICES = st.sets(st.integers(1, 12), min_size=1).map(lambda values: Choices(choices=tuple(values)))


@given(INTS | CHOICES, INTS | CHOICES)
def test_a_space_contains_another_exactly_when_it_holds_its_every_value(
    new: ParamSpec, old: ParamSpec
) -> None:
    assert contains(new, old) == all(holds(new, value) for value in values_of(old) or ())


@given(st.lists(st.integers(0, 6), min_size=4, max_size=4), st.sampled_from([None, 0.1, 0.2, 0.3]))
def test_a_range_of_fractions_contains_another_in_decimal_numbers(
    ends: list[int], step: float | None
) -> None:
    """Tenths, which no float is: 0.3 is three steps of 0.1."""
    old_low, old_high, new_low, new_high = ends
    old = FloatRange(low=old_low / 10, high=(old_low + 6 * old_high) / 10, step=step)
    new = FloatRange(low=new_low / 10, high=(new_low + 6 * new_high) / 10, step=step)

    tenths = None if step is None else round(step * 10)
    inside = new_low <= old_low and old_low + 6 * old_high <= new_low + 6 * new_high
    aligned = tenths is None or (old_low - new_low) % tenths == 0
    assert contains(new, old) == (inside and aligned)


def test_every_number_is_more_than_some_of_them() -> None:
    some, every = FloatRange(low=0.0, high=1.0, step=0.25), FloatRange(low=0.0, high=1.0)
    few = Choices(choices=(0.0, 0.5))

    assert [contains(one, other) for one, other in product((every, some, few), repeat=2)] == [
        True,
        True,
        True,
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_a_huge_range_is_not_gone_through() -> None:
    huge = IntRange(low=1, high=2**62)

    assert holds(huge, 2**61)
    assert holds(huge, 2.0)
    assert not any(holds(huge, value) for value in (0.5, "x", None, [1], float("nan"), float("inf")))


def test_a_space_holds_numbers_as_the_file_writes_them() -> None:
    spec: Any = FloatRange(low=0.1, high=0.7, step=0.1)

    assert [holds(spec, value) for value in (0.1, 0.3, 0.7, 0.35, 0.8, True, "0.1")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]
