"""YAML as data and nothing more: the core schema of YAML 1.2, with a line for every value.

Refused: anchors and aliases (a few lines could stand for gigabytes), tags (they name types to construct),
keys given twice, and files and texts too large or too deep to be an experiment. `on`, `no`, `12:30`,
`2025-01-31` and `1_000` are text, `012` is twelve and `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml import events

from orchestrator.config.document import Keys, Node, Place, Problem, dotted
from orchestrator.errors import ConfigError

__all__ = ["LONGEST_TEXT", "parse_yaml", "read_yaml", "scalar", "text_problem", "write_yaml"]

LONGEST_TEXT = 4096
"""Characters of a value or a key; a path of more is none that Linux takes."""

_MOST_BYTES = 2**18  # what takes well below a second to read, whatever is in it
_TOO_LARGE = f"is larger than {_MOST_BYTES // 1024} KiB, which no experiment file is"
_MOST_NODES = 5_000
_MOST_LEVELS = 32
_LARGEST_INTEGER = 2**63 - 1

_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,20}"), int),
    (re.compile(r"0o[0-7]{1,22}"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]{1,16}"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)

_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def read_yaml(path: Path, source: str) -> tuple[Node, list[Problem]]:
    """The tree in a file, and what is wrong with it. Raises ConfigError if there is no tree to be had."""
    try:
        if not path.is_file():
            raise ConfigError(
                f"{source}: {'is not a regular file' if path.exists() else 'there is no such file'}"
            )
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{source}: {_TOO_LARGE}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: is not valid UTF-8; save the file in that encoding") from error
    return parse_yaml(text, Place(source, 1, path.parent.absolute()))


def parse_yaml(text: str, start: Place) -> tuple[Node, list[Problem]]:
    """The tree in a text, and what is wrong with it. Raises ConfigError if there is no tree to be had."""
    if unwanted := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unwanted.start()) + 1
        raise ConfigError(f"{_at(start, line)}: holds the control character {unwanted.group()!r}; remove it")
    if len(text.encode()) > _MOST_BYTES:
        raise ConfigError(f"{start.source}: {_TOO_LARGE}")
    builder = _Builder(text, start)
    return builder.document(), builder.problems


def write_yaml(plain: Any) -> str:
    """The text of a tree of mappings, lists and scalars; reading it gives the same tree."""
    return yaml.dump(
        plain, Dumper=_Dumper, allow_unicode=True, default_flow_style=None, sort_keys=False, width=2**20
    )


def scalar(text: str) -> Any:
    """What an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    for pattern, convert in _NUMBERS:
        if pattern.fullmatch(text):
            return convert(text)
    return text


def text_problem(text: str) -> str | None:
    """Why a text is refused, if it is."""
    if found := _UNWANTED.search(text):
        return f"holds the character {found.group()!r}, which has no place in an experiment file"
    if len(text) > LONGEST_TEXT:
        return f"has {len(text):,} characters, and no value needs more than {LONGEST_TEXT:,}"
    return None


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what `scalar` would read as something other than text."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return self.represent_data(scalar(value)).tag
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Builder:
    """Nodes from parser events."""

    def __init__(self, text: str, start: Place) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._loader = yaml.SafeLoader(text)
        self._start = start
        self._nodes = 0

    def document(self) -> Node:
        self._next()
        if isinstance(self._next(), events.StreamEndEvent):
            return Node(None, self._start)
        root = self._node(self._next(), (), self._start)
        self._next()
        if not isinstance(after := self._next(), events.StreamEndEvent):
            raise ConfigError(f"{self._place(after)}: a second document starts here; give one per file")
        return root

    def _node(self, event: Any, keys: Keys, place: Place) -> Node:
        self._nodes += 1
        if self._nodes > _MOST_NODES or len(keys) > _MOST_LEVELS:
            limit = f"{_MOST_NODES} values" if self._nodes > _MOST_NODES else f"{_MOST_LEVELS} levels"
            raise ConfigError(f"{self._place(event)}: more than {limit}, which no experiment file has")
        self._refuse_extras(event, keys)
        match event:
            case events.MappingStartEvent():
                return Node(self._mapping(keys), place)
            case events.SequenceStartEvent():
                return Node(self._sequence(keys), place)
            case events.ScalarEvent():
                return Node(self._scalar(event, keys), place)
            case _:
                return Node(None, place)

    def _mapping(self, keys: Keys) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while not isinstance(event := self._next(), events.MappingEndEvent):
            place = self._place(event)
            key = self._key(event, keys)
            if key in found:
                text = f"is given twice; the first time at {found[key].place}"
                self.problems.append(Problem((*keys, key), text, place))
            found[key] = self._node(self._next(), (*keys, key), place)
        return found

    def _key(self, event: Any, keys: Keys) -> str:
        if isinstance(event, events.ScalarEvent):
            self._refuse_extras(event, keys)
            if text_problem(event.value) is None:
                return str(event.value)
        inside = f" of {dotted(keys)}" if keys else ""
        raise ConfigError(f"{self._place(event)}: a key{inside} must be plain text")

    def _sequence(self, keys: Keys) -> list[Node]:
        found: list[Node] = []
        while not isinstance(event := self._next(), events.SequenceEndEvent):
            found.append(self._node(event, (*keys, len(found)), self._place(event)))
        return found

    def _scalar(self, event: events.ScalarEvent, keys: Keys) -> Any:
        value = scalar(event.value) if event.implicit[0] else event.value
        text = text_problem(value) if isinstance(value, str) else None
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            text = "is a number of more than 64 bits"
        if text is None:
            return value
        self.problems.append(Problem(keys, text, self._place(event)))
        return None

    def _refuse_extras(self, event: Any, keys: Keys) -> None:
        tag = getattr(event, "tag", None)
        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            mark = "*" if isinstance(event, events.AliasEvent) else "&"
            text = f"anchors and aliases ({mark}{event.anchor}) are not supported; write the value out"
            self.problems.append(Problem(keys, text, self._place(event)))
        elif tag is not None:
            text = f"tags ({tag}) are not supported; write the value without it"
            self.problems.append(Problem(keys, text, self._place(event)))

    def _next(self) -> Any:
        try:
            return self._loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark or self._loader.get_mark()
            written = "".join(self._text.splitlines()[mark.line : mark.line + 1])
            hint = '; within braces write "${env:NAME}", quotes included' if "${" in written else ""
            raise ConfigError(
                f"{_at(self._start, mark.line + 1)}: not valid YAML: {error.problem}{hint}"
            ) from error
        except (ValueError, OverflowError) as error:
            line = self._loader.get_mark().line + 1
            text = "not valid YAML: holds an escape or a number beyond all bounds"
            raise ConfigError(f"{_at(self._start, line)}: {text}") from error

    def _place(self, event: Any) -> Place:
        if self._start.line is None:
            return self._start
        return Place(self._start.source, event.start_mark.line + 1, self._start.folder)


def _at(start: Place, line: int) -> str:
    return str(start) if start.line is None else f"{start.source}:{line}"
