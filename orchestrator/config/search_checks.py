"""Whether what is to be searched fits the fields of `train` it is to be put into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cpsc_core import tables
from cpsc_core.distill.presets import PRESETS
from orchestrator.config.block import STRICT
from orchestrator.config.containment import exact
from orchestrator.config.document import Keys, Node, Problem, shown
from orchestrator.config.messages import problems_of, unknown, unknown_field
from orchestrator.config.networks import unknown_network
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import FIELDS, NOT_SEARCHED, Choices, Range, field_kind
from orchestrator.store.records import STUDENT_ARCH

__all__ = ["search_fits_train", "value_fits"]

_NAMES: Mapping[str, Mapping[str, object]] = {
    "loss.ikd_form": tables.LOSSES,
    "method": tables.METHODS,
    "preset": PRESETS,
}


def search_fits_train(config: SweepConfig, root: Node) -> Iterator[Problem]:
    """What is wrong with the search space: unknown paths, and values outside the limits of their field."""
    for path, spec in config.search.items():
        keys = ("search", path)
        if text := unknown_field(path) or NOT_SEARCHED.get(path):
            yield Problem(keys, text)
        elif isinstance(spec, Choices):
            yield from _choices_fit(path, spec, root)
        elif field_kind(path) in (int, float):
            yield from _range_fits(path, spec, root)
        else:
            yield Problem(keys, "is not a number; give choices instead of low and high")


def _choices_fit(path: str, spec: Choices, root: Node) -> Iterator[Problem]:
    keys = ("search", path, "choices")
    misfits = [
        problem
        for index, value in enumerate(spec.choices)
        for problem in value_fits(path, (*keys, index), value, root)
    ]
    yield from misfits
    if not misfits and len(set(spec.choices)) < len(spec.choices):
        yield Problem(keys, "holds a value twice")


def _range_fits(path: str, spec: Range, root: Node) -> Iterator[Problem]:
    keys = ("search", path)
    for end in ("low", "high"):
        yield from value_fits(path, (*keys, end), root.nearest((*keys, end)).plain(), root)
    if spec.low >= spec.high:
        yield Problem((*keys, "low"), f"must be less than high, which is {spec.high}, but is {spec.low}")
        return
    if spec.log and spec.low <= 0:
        yield Problem((*keys, "log"), f"needs a low greater than 0, but low is {spec.low}")
    if spec.log and spec.step is not None:
        yield Problem((*keys, "step"), "does not go with log: true; leave one of them out")
    elif spec.step is not None and (exact(spec.high) - exact(spec.low)) % exact(spec.step):
        yield Problem(
            (*keys, "step"), f"must lead from low to high in whole steps, but {spec.step} misses {spec.high}"
        )


def value_fits(path: str, keys: Keys, value: Any, root: Node) -> Iterator[Problem]:
    """What is wrong with a value for a field."""
    try:
        _adapter(path).validate_python(value)
    except ValidationError as error:
        yield from problems_of(error, root, keys)
        return
    if path == STUDENT_ARCH:
        if text := unknown_network(value):
            yield Problem(keys, text)
    elif path in _NAMES and value not in _NAMES[path]:
        yield Problem(keys, unknown(f"{path} {shown(value)}", value, _NAMES[path]))


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    return TypeAdapter(FIELDS[path], config=STRICT)
