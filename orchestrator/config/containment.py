"""Whether a search space holds a value, or all of another search space."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from orchestrator.config.conditions import values_of
from orchestrator.config.search import Choices, FloatRange, IntRange, ParamSpec, Range

__all__ = ["contains", "exact", "holds", "lies_on"]


def holds(spec: ParamSpec, value: Any) -> bool:
    """Whether a value may be tried."""
    match spec:
        case FloatRange():
            return _is_number(value) and spec.low <= value <= spec.high and lies_on(spec, value)
        case IntRange():  # a range looks for anything but an int among its numbers one by one
            is_whole = _is_number(value) and float(value).is_integer()
            return is_whole and int(value) in range(spec.low, spec.high + 1, spec.step or 1)
        case Choices():
            return value in spec.choices


def contains(new: ParamSpec, old: ParamSpec) -> bool:
    """Whether every value that an entry of the search space allows is allowed by another."""
    if isinstance(old, Choices):
        return all(holds(new, value) for value in old.choices)
    if isinstance(new, Choices):
        values = values_of(old)
        return values is not None and len(values) <= len(new.choices) and set(values) <= set(new.choices)
    inside = new.low <= old.low and old.high <= new.high and lies_on(new, old.low)
    return inside and _is_multiple(_step(old), _step(new))


def lies_on(spec: Range, value: float) -> bool:
    """Whether a number is a whole number of steps from the low end, in the decimal numbers of the file."""
    step = _step(spec)
    return step is None or (exact(value) - exact(spec.low)) % step == 0


def exact(number: float) -> Fraction:
    """The number that was written: 0.1 is a tenth."""
    return Fraction(str(number))


def _step(spec: Range) -> Fraction | None:
    """Distance between the values that are tried; None if any number is."""
    if spec.step is not None:
        return exact(spec.step)
    return None if isinstance(spec, FloatRange) else Fraction(1)


def _is_multiple(old: Fraction | None, new: Fraction | None) -> bool:
    return new is None or (old is not None and old % new == 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
