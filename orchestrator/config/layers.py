"""The files and overrides that make up one experiment, laid on top of each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.config.document import Node, Place, Problem, merge, shown
from orchestrator.config.search import SPEC_KEYS
from orchestrator.config.yaml_file import parse_yaml, read_yaml, text_problem
from orchestrator.errors import ConfigError

__all__ = ["extend", "override", "read_layers"]

_EXTENDS = "extends"


def read_layers(path: Path) -> tuple[Node, list[Problem]]:
    """The tree of an experiment file merged over those it extends, and what is wrong with any of them.

    Raises ConfigError for a file that cannot be read as a tree.
    """
    return extend(*read_yaml(path, str(path)), chain=(path,))


def extend(top: Node, problems: list[Problem], chain: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    """A tree merged over the files it extends; `chain` holds the file it came from, if it came from one.

    Raises ConfigError if the chain of files bites its own tail or one of them cannot be read.
    """
    layers = [_as_mapping(top)]
    while (reference := layers[-1].find((_EXTENDS,))) is not None:
        path = _extended(reference, chain)
        layer, found = read_yaml(path, str(path))
        chain = (*chain, path)
        layers.append(_as_mapping(layer))
        problems = [*problems, *found]
    merged = layers.pop()
    while layers:
        merged = merge(merged, layers.pop())
    return _without_extends(merged), problems


def override(root: Node, assignments: Sequence[str]) -> tuple[Node, list[Problem]]:
    """A tree with `a.b=VALUE` assignments laid on top, of which the later wins, and what is wrong with them.

    Raises ConfigError for an assignment that cannot be read.
    """
    problems: list[Problem] = []
    over: Node | None = None
    for assignment in assignments:
        node, found = _assigned(assignment)
        problems += found
        over = merge(over, node) if over else node
    return (merge(root, over) if over else root), problems


def _as_mapping(root: Node) -> Node:
    if isinstance(root.value, dict):
        return root
    given = "is empty" if root.value is None else f"holds {shown(root.plain())}"
    raise ConfigError(
        f"{root.place}: {given}; an experiment file is a mapping with name, data, teacher and more"
    )


def _extended(reference: Node, chain: tuple[Path, ...]) -> Path:
    place = reference.place
    if not isinstance(reference.value, str) or not reference.value or text_problem(reference.value):
        raise ConfigError(
            f"{place}: {_EXTENDS}: must be the path of a file, but is {shown(reference.plain())}"
        )
    path = Path(place.source).parent
    try:
        path = path / Path(reference.value).expanduser()
        is_circle = path.resolve() in {earlier.resolve() for earlier in chain}
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{place}: {_EXTENDS}: {path} cannot be read: {error}") from error
    if is_circle:
        circle = " -> ".join(str(each) for each in (*chain, path))
        raise ConfigError(f"{place}: {_EXTENDS}: the files extend each other in a circle: {circle}")
    if not is_file:
        raise ConfigError(f"{place}: {_EXTENDS}: there is no file {path}")
    return path


def _without_extends(root: Node) -> Node:
    kept = {key: child for key, child in root.value.items() if key != _EXTENDS}
    return Node(kept, root.place)


def _assigned(assignment: str) -> tuple[Node, list[Problem]]:
    path, equals, text = assignment.partition("=")
    keys = _override_keys(path)
    if not equals or not all(keys) or text_problem(path):
        raise ConfigError(f"--set {path!r}: write it as --set train.epochs=2")
    place = Place(f"--set {path}", None, Path.cwd())
    node, problems = parse_yaml(text, place)
    for key in reversed(keys):
        node = Node({key: node}, place)
    return node, [Problem((*keys, *each.keys), each.text, place) for each in problems]


def _override_keys(path: str) -> tuple[str, ...]:
    """The keys of a dotted path; below `search` the path into `train` is one key, dots and all."""
    keys = tuple(path.split("."))
    if keys[0] != "search" or len(keys) < 3:
        return keys
    if keys[-1] in SPEC_KEYS:
        return "search", ".".join(keys[1:-1]), keys[-1]
    return "search", ".".join(keys[1:])
