"""A file as a tree in which everything remembers where it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.config.chosen import CHOSEN_BY_NAME

__all__ = ["Keys", "Node", "Place", "Problem", "dotted", "merge", "report", "shown"]

Keys = tuple[str | int, ...]
"""The way to a value: keys of mappings and numbers of list entries."""

_LONGEST_SHOWN = 60
_MOST_SHOWN = 100
_USER_PART = re.compile(r"://[^/?#@\s]*@")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written."""

    source: str
    """The file as the user named it, or the override."""
    line: int | None
    """Line from 1; None for an override."""
    folder: Path
    """What a relative path written here is relative to."""

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was written."""

    value: Any
    """A mapping of nodes, a list of nodes, or a scalar."""
    place: Place
    """Of the key that introduces it; of the entry itself in a list."""

    def find(self, keys: Keys) -> Node | None:
        """What lies at the end of a way, or None."""
        node: Node | None = self
        for key in keys:
            node = node._child(key) if node else None
        return node

    def nearest(self, keys: Keys) -> Node:
        """What lies at the end of a way, or as far along it as there is anything."""
        return self.find(keys) or self.nearest(keys[:-1])

    def put(self, keys: Keys, child: Node) -> Node:
        """A copy with another value at the end of a way through mappings that exist."""
        if not keys:
            return child
        inner = self.value[keys[0]].put(keys[1:], child)
        return replace(self, value={**self.value, keys[0]: inner})

    def scalars(self, keys: Keys = ()) -> Iterator[tuple[Keys, Node]]:
        """Every scalar below, with the way to it."""
        children = _children(self.value)
        if children is None:
            yield keys, self
        else:
            for key, child in children:
                yield from child.scalars((*keys, key))

    def plain(self, read: Callable[[Any], Any] = lambda scalar: scalar) -> Any:
        """The value without places, every scalar as `read` sees it."""
        match self.value:
            case dict():
                return {key: child.plain(read) for key, child in self.value.items()}
            case list():
                return [child.plain(read) for child in self.value]
            case _:
                return read(self.value)

    def _child(self, key: str | int) -> Node | None:
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(key)
            return found
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            entry: Node = self.value[key]
            return entry
        return None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a person has to change."""

    keys: Keys
    """The way to it; empty if it concerns a whole file."""
    text: str
    """What is wrong and what is allowed."""
    place: Place | None = None
    """Where it was written; None: wherever `keys` lead."""


def merge(base: Node, over: Node, keys: Keys = ()) -> Node:
    """`base` with `over` laid on top: mappings are merged key by key, anything else is replaced.

    Null takes an entry of the search space away: there is nothing else that it could mean.
    A merged mapping lies where `over` has it, but no override stands for a whole block of a file.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)) or _is_another(base, over, keys):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        if keys == ("search",) and key in merged and child.value is None:
            del merged[key]
            continue
        merged[key] = merge(merged[key], child, (*keys, key)) if key in merged else child
    return Node(merged, base.place if over.place.line is None else over.place)


def report(problems: Iterable[Problem], root: Node) -> tuple[str, int]:
    """One line per problem, by file and line, overrides last, and how many there are.

    Of several about one value only the first counts; of very many the first are told.
    """
    first: dict[Any, Problem] = {}
    for problem in problems:
        first.setdefault(problem.keys or problem, problem)
    placed = [(problem.place or root.nearest(problem.keys).place, problem) for problem in first.values()]
    placed.sort(key=lambda each: (each[0].line is None, each[0].source, each[0].line or 0))
    return "\n".join(_line(place, problem) for place, problem in placed[:_MOST_SHOWN]), len(placed)


def dotted(keys: Keys) -> str:
    """A way as people write it: train.loss.ikd, choices[2]."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_short(key)}" for key in keys)
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """A value as a message shows it: short, on one line, without the user part of an address."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str() if "${env:" in value:
            return f"what {_short(value)} stands for"
        case str():
            return f"'{_short(_USER_PART.sub('://***@', value))}'"
        case _:
            return json.dumps(value)


def _children(value: Any) -> Iterable[tuple[str | int, Node]] | None:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else None


def _is_another(base: Node, over: Node, keys: Keys) -> bool:
    """Whether a mapping names another choice, so that the other keys of the old one mean nothing to it."""
    match keys:
        case (str() as block,) if block in CHOSEN_BY_NAME and base.place.line is not None:
            return "name" in over.value and over.plain()["name"] != base.plain().get("name")
        case ("search", _):
            return ("choices" in over.value) != ("choices" in base.value)
        case _:
            return False


def _line(place: Place, problem: Problem) -> str:
    path = dotted(problem.keys)
    named = path and str(place) != f"--set {path}"
    return f"{place}: {path}: {problem.text}" if named else f"{place}: {problem.text}"


def _short(text: str) -> str:
    flat = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return flat if len(flat) <= _LONGEST_SHOWN else f"{flat[:_LONGEST_SHOWN]}..."
