"""Limits of numbers, declared once, as `annotated_types` on the field of a settings dataclass.

They hold however an object is made: by hand (`check_limits` in `__post_init__`), or by a validator that reads
the same annotations and so can say which line of a file is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from cpsc_core.errors import SettingsError

__all__ = ["Count", "NonNegative", "Positive", "check_limits", "describe_kind", "field_limits", "fits"]

NonNegative = Annotated[float, Ge(0.0)]
Positive = Annotated[float, Gt(0.0)]
Count = Annotated[int, Ge(1)]


_WORDS = {bool: "true or false", float: "a number", int: "a whole number", str: "a text", NoneType: "null"}
_LONGEST_NUMBER_BITS = 64


def check_limits(settings: Any) -> None:
    """Raise SettingsError if a field of a settings dataclass lies outside its declared limits."""
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if kind is int and (not isinstance(value, int) or isinstance(value, bool)):
            raise SettingsError(f"{name} must be a whole number, but is {value!r}")
        if kind is float and isinstance(value, int):  # 1 and 1.0 are one setting and must give one identity
            value = float(value)
            object.__setattr__(settings, name, value)
        if kind is float and not math.isfinite(value):
            raise SettingsError(f"{name} must be a finite number, but is {value}")
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise SettingsError(f"{name} must be one of {', '.join(get_args(kind))}, but is {value!r}")
        for limit in _limits(hint):
            if not _holds(limit, value):
                raise SettingsError(f"{name} must be {_describe(limit)}, but is {value}")


def field_limits(hint: Any) -> tuple[float, float]:
    """The smallest and largest value an annotated number may have; a strict limit is its open end."""
    low, high = -math.inf, math.inf
    for limit in _limits(hint):
        if isinstance(limit, Ge | Gt):
            low = max(low, float(limit.ge if isinstance(limit, Ge) else limit.gt))  # type: ignore[arg-type]
        elif isinstance(limit, Le | Lt):
            high = min(high, float(limit.le if isinstance(limit, Le) else limit.lt))  # type: ignore[arg-type]
    return low, high


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a field's type; limits of numbers are not looked at."""
    outer, parts = get_origin(kind), get_args(kind)
    if outer in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if outer in (tuple, list):
        return isinstance(value, outer) and all(fits(each, parts[0]) for each in value)
    if outer is Literal:
        return value in parts
    if kind in (int, float):
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        return is_number and not (isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER_BITS)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in [each.value for each in kind]
    return kind is Any or isinstance(value, outer or kind)


def describe_kind(kind: Any) -> str:
    """What a value of a field's type is, in words."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(describe_kind, parts))
    if get_origin(kind) is tuple:
        return f"a list, each of it {describe_kind(parts[0])}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(parts)}"
    return _WORDS[kind]


def _limits(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from (extra for extra in get_args(hint)[1:] if isinstance(extra, Ge | Gt | Le | Lt))


def _holds(limit: Any, value: Any) -> bool:
    match limit:
        case Ge():
            return bool(value >= limit.ge)
        case Gt():
            return bool(value > limit.gt)
        case Le():
            return bool(value <= limit.le)
        case _:
            return bool(value < limit.lt)


def _describe(limit: Any) -> str:
    match limit:
        case Ge():
            return f"at least {limit.ge}"
        case Gt():
            return f"greater than {limit.gt}"
        case Le():
            return f"at most {limit.le}"
        case _:
            return f"less than {limit.lt}"
