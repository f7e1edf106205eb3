"""Whether the conditions of a search space can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.config.conditions import find_circle, never_active, values_of
from orchestrator.config.document import Keys, Node, Problem, shown
from orchestrator.config.messages import unknown_field
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import FIELDS
from orchestrator.config.search_checks import value_fits

__all__ = ["conditions_can_hold", "was_given"]


def conditions_can_hold(config: SweepConfig, root: Node) -> Iterator[Problem]:
    """What is wrong with conditions: unknown fields, values that nobody ever has, circles, contradictions."""
    space = {path: spec for path, spec in config.search.items() if path in FIELDS}
    has_circle = any(find_circle(space, path) for path in space)
    for path, spec in config.search.items():
        problems = [
            problem
            for parent, values in spec.when.items()
            for problem in _can_hold(config, root, path, parent, values)
        ]
        yield from problems
        if problems or path not in space:
            continue
        if circle := find_circle(space, path):
            yield Problem(("search", path, "when"), f"goes round in a circle: {' needs '.join(circle)}")
        elif not has_circle and (parent := never_active(space, path)):
            text = f"can never hold: it would need {parent} to have two values at once"
            yield Problem(("search", path, "when"), text)


def was_given(root: Node, path: str) -> bool:
    """Whether the file has a search entry for a path, be it one that could not be read."""
    return any(root.find(("search", key)) is not None for key in (path, f"train.{path}"))


def _can_hold(
    config: SweepConfig, root: Node, path: str, parent: str, values: tuple[Any, ...]
) -> Iterator[Problem]:
    keys = _written(root, ("search", path, "when"), parent)
    if text := unknown_field(parent):
        yield Problem(keys, text)
    elif parent == path:
        yield Problem(keys, "cannot depend on itself")
    elif misfits := [problem for value in values for problem in value_fits(parent, keys, value, root)]:
        yield misfits[0]
    elif parent in config.search:
        yield from _is_ever(keys, parent, values, values_of(config.search[parent]))
    elif not was_given(root, parent) and (fixed := config.fixed_setting(parent)) not in values:
        text = f"never holds: {parent} is {shown(fixed)} in every trial; search it too, or leave {path} out"
        yield Problem(keys, text)


def _is_ever(
    keys: Keys, parent: str, values: tuple[Any, ...], tried: range | tuple[Any, ...] | None
) -> Iterator[Problem]:
    if tried is None:
        yield Problem(keys, f"needs choices or whole numbers to depend on, but {parent} may be any number")
    elif never := [value for value in values if value not in tried]:
        yield Problem(keys, f"names {shown(never[0])}, which is never tried for {parent}")


def _written(root: Node, keys: Keys, parent: str) -> Keys:
    """The way to a condition as the file writes it, with or without `train.`."""
    full = (*keys, f"train.{parent}")
    return full if root.find(full) is not None else (*keys, parent)
