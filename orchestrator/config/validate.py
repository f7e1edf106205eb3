"""A tree judged against the schema and the checks: everything that is wrong, found at once.

Every block is read on its own, and what cannot be read is cut out before the checks that need several fields,
so that one mistake hides no other and none is reported twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from cpsc_core.errors import CoreError
from orchestrator.config.block import Block
from orchestrator.config.checks import Check
from orchestrator.config.document import Keys, Node, Problem
from orchestrator.config.messages import is_unknown_key, problem_of, unknown_key
from orchestrator.config.schema import SweepConfig

__all__ = ["judge"]


class _Alone(Block):
    model_config = ConfigDict(use_attribute_docstrings=False)  # looking for them takes longer than the rest


_BLOCKS: Mapping[str, type[BaseModel]] = {
    name: create_model(name, __base__=_Alone, **{name: (info.annotation, info)})  # type: ignore[call-overload]
    for name, info in SweepConfig.model_fields.items()
}
"""A model for each block alone."""


@dataclass(slots=True)
class _Reading:
    """What could be read so far."""

    blocks: dict[str, Any] = field(default_factory=dict)
    """Blocks by name; one that could not be read is missing."""
    spoilt: set[Keys] = field(default_factory=set)
    """Where something is wrong."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong there."""

    def note(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.spoilt.add(problem.keys)

    def is_sound(self, path: str) -> bool:
        keys = tuple(path.split("."))
        return keys[0] in self.blocks and not any(keys[: len(each)] == each for each in self.spoilt)


def judge(
    root: Node, plain: Mapping[str, Any], checks: Iterable[tuple[tuple[str, ...], Check]]
) -> tuple[SweepConfig, list[Problem]]:
    """The configuration in a tree, and what is wrong with it.

    `plain` is the tree as JSON values. Where there are problems, the configuration lacks what could not
    be read.
    """
    reading = _Reading()
    for key in plain:
        if key not in _BLOCKS:
            reading.note(Problem((key,), unknown_key((key,), (key,))))
    for name in _BLOCKS:
        _read_block(name, {name: plain[name]} if name in plain else {}, root, reading)
    config = SweepConfig.model_construct(**reading.blocks)
    problems = list(reading.problems)
    for paths, check in checks:
        if all(reading.is_sound(path) for path in paths):
            problems += _carried_out(check, config, root)
    return config, problems


def _read_block(name: str, given: dict[str, Any], root: Node, reading: _Reading) -> None:
    """Read a block, cutting out what is wrong with it until the rest can be read or nothing is left."""
    details, block = _validated(name, given)
    problems = [problem_of(detail, root) for detail in details]
    for problem in problems:
        reading.note(problem)
    while details:
        cuts = {_cut(detail, problem.keys) for detail, problem in zip(details, problems, strict=True)}
        rest = _without(given, cuts)
        if rest == given:
            return
        given = rest
        details, block = _validated(name, given)
        problems = [problem_of(detail, root) for detail in details]
    reading.blocks[name] = getattr(block, name)


def _validated(name: str, given: dict[str, Any]) -> tuple[list[Any], BaseModel | None]:
    try:
        return [], _BLOCKS[name].model_validate_json(json.dumps(given))
    except ValidationError as error:
        return list(error.errors(include_url=False)), None


def _cut(detail: Any, keys: Keys) -> Keys:
    """What to leave out because of a problem: no more than must be."""
    if is_unknown_key(detail):
        return keys
    if keys[0] == "search":
        return keys[:2]
    return keys[:-1] if detail["type"] == "missing" else keys


def _without(tree: Any, cuts: set[Keys]) -> Any:
    """A tree without what lies at the end of ways through mappings; a way through a list leads nowhere."""
    if not isinstance(tree, dict):
        return tree
    inner: dict[str | int, set[Keys]] = {}
    for head, *rest in filter(None, cuts):
        inner.setdefault(head, set()).add(tuple(rest))
    return {
        key: _without(value, inner[key]) if key in inner else value
        for key, value in tree.items()
        if () not in inner.get(key, ())
    }


def _carried_out(check: Check, config: SweepConfig, root: Node) -> Iterable[Problem]:
    try:
        return list(check(config, root))
    except CoreError as error:
        return [Problem((), str(error))]
