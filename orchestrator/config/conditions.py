"""Which parameters of a search space exist together: a `when` names others and the values they must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.search import Choices, FloatRange, IntRange, ParamSpec

__all__ = ["find_circle", "in_order", "is_active", "never_active", "values_of"]

Space = Mapping[str, ParamSpec]


def is_active(search: Space, path: str, params: Mapping[str, Any]) -> bool:
    """Whether a parameter exists beside others: all that its condition names exist and are as it says.

    A condition on a field that is not searched holds, or the experiment would have been refused.
    """
    when = search[path].when
    return all(params.get(parent, _ABSENT) in values for parent, values in when.items() if parent in search)


def in_order(search: Space) -> list[str]:
    """Every parameter after those its condition names, else in the order of the alphabet."""
    left, order = sorted(search), list[str]()
    while left:
        ready = [path for path in left if not (search[path].when.keys() & set(left))]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(left)} go round in a circle")
        order.append(ready[0])
        left.remove(ready[0])
    return order


def find_circle(search: Space, path: str) -> list[str] | None:
    """The way from a parameter through conditions back to itself; None if there is none."""
    ways = [[path]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for parent in sorted(search[way[-1]].when.keys() & search.keys()):
            if parent == path:
                return [*way, path]
            if parent not in seen:
                seen.add(parent)
                ways.append([*way, parent])
    return None


def never_active(search: Space, path: str) -> str | None:
    """A parameter that would need two values at once for `path` to exist; None if it can exist.

    The conditions must not go round in a circle.
    """
    needed: dict[str, list[Any]] = {}
    open_paths, seen = [path], {path}
    while open_paths:
        for parent, values in search[open_paths.pop()].when.items():
            if parent in search:
                kept = needed.get(parent, list(values))
                needed[parent] = [value for value in kept if value in values]
                open_paths += {parent} - seen
                seen.add(parent)
    return next((parent for parent, values in sorted(needed.items()) if not values), None)


def values_of(spec: ParamSpec) -> range | tuple[Any, ...] | None:
    """The values that are tried, if they can be counted off."""
    match spec:
        case Choices():
            return spec.choices
        case IntRange():
            return range(spec.low, spec.high + 1, spec.step or 1)
        case FloatRange():
            return None


_ABSENT = object()
