"""What a validator found, in words a person can act on."""

from __future__ import annotations

import builtins
import difflib
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag, ValidationError

from orchestrator.config.chosen import CHOSEN_BY_NAME, WRAPPED_BY_NAME
from orchestrator.config.document import Keys, Node, Problem, dotted, shown
from orchestrator.config.schema import NAME_RULE, SweepConfig
from orchestrator.config.search import FIELDS, NOT_SEARCHED

__all__ = ["is_unknown_key", "problem_of", "problems_of", "unknown", "unknown_field", "unknown_key"]

_KINDS: Mapping[str, str] = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a mapping",
    "string_pattern_mismatch": NAME_RULE,
    "string_type": "text",
    "tuple_type": "a list",
}

_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}

_LONGEST_SLIP = 64
"""Characters of a name that may be a slip of another; comparing longer ones takes its time."""

_LATER_KEYS: Mapping[str, str] = {
    "objective.prune_on": "belongs beside objective, not into it: prune_on: METRIC on a line of its own",
}


def problems_of(error: ValidationError, root: Node, prefix: Keys = ()) -> Iterator[Problem]:
    """The problems behind a validation error of the part of a tree below `prefix`."""
    for detail in error.errors(include_url=False):
        yield problem_of(detail, root, prefix)


def problem_of(detail: Any, root: Node, prefix: Keys = ()) -> Problem:
    """The problem behind one detail of a validation error."""
    loc = (*prefix, *detail["loc"])
    keys = _without_tags(root, loc)
    if keys[0] == "search" and len(keys) > 2 and (text := unknown_field(str(keys[1]))):
        return Problem(keys[:2], text)
    if detail["type"] == "union_tag_invalid":
        return Problem((*keys, "name"), _unknown_choice(dotted(keys), root.nearest((*keys, "name")).plain()))
    if is_unknown_key(detail):
        return Problem(keys, unknown_key(keys, loc))
    if detail["type"] == "missing":
        return Problem(keys, "is missing, and it has no default")
    return Problem(keys, _wrong_value(detail, root.nearest(keys).plain()))


def is_unknown_key(detail: Any) -> bool:
    """Whether a detail of a validation error is about a key that should not be there."""
    return detail["type"] in ("extra_forbidden", "unexpected_keyword_argument")


def unknown_key(keys: Keys, loc: Keys) -> str:
    """That there is no key of a name where `keys` lead, in a validator's words `loc`, and which there are."""
    return _LATER_KEYS.get(dotted(keys)) or unknown("key", str(keys[-1]), _allowed_keys(loc[:-1]))


def unknown_field(path: str) -> str | None:
    """That `train` has no field at a dotted path, and what is meant perhaps; None if it has one."""
    if path in FIELDS:
        return None
    if inside := [each for each in FIELDS if each.startswith(f"{path}.")]:
        return f"is a group of fields; search one of them by its dotted path, such as {inside[0]}"
    return unknown("field of train", path, FIELDS.keys() - NOT_SEARCHED.keys())


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """That something is in no list, the nearest name that is, and the list."""
    allowed = sorted(known)
    near = difflib.get_close_matches(name, allowed, n=1) if len(name) <= _LONGEST_SLIP else []
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown {noun}; {hint}allowed: {', '.join(allowed) or 'nothing'}"


def _wrong_value(detail: Any, given: Any) -> str:
    kind = detail["type"]
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, but is {shown(given)}"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"must be {words} {detail['ctx'][name]:.12g}, but is {shown(given)}"
    if kind == "literal_error":
        return f"must be {detail['ctx']['expected']}, but is {shown(given)}"
    if kind == "too_short":
        return "must not be empty"
    return f"{detail['msg']}, but is {shown(given)}"


def _unknown_choice(block: str, given: Any) -> str:
    allowed = WRAPPED_BY_NAME if block == "pruner.wraps" else CHOSEN_BY_NAME[block]
    return unknown(f"{block.split('.')[0]} {shown(given)}", str(given), allowed)


def _without_tags(root: Node, loc: Keys) -> Keys:
    """The way in the file; a validator also names the branch of a union it took, as <branch>."""
    keys: Keys = ()
    for item in loc:
        is_tag = isinstance(item, str) and item.startswith("<") and root.find((*keys, item)) is None
        keys = keys if is_tag else (*keys, item)
    return keys


def _allowed_keys(loc: Keys) -> Iterable[str]:
    """Keys of the mapping a validator was in."""
    branches: dict[Any, Any] = {None: SweepConfig}
    for item in loc:
        if item in branches:
            branches = {None: branches[item]}
        else:
            branches = dict(_branches(_field(branches[None], item)))
    return _fields(branches[None])


def _field(kind: Any, key: Any) -> Any:
    match get_origin(kind):
        case builtins.dict:
            return get_args(kind)[1]
        case builtins.tuple:
            return get_args(kind)[0]
        case _:
            return _fields(kind)[key]


def _fields(kind: Any) -> Mapping[str, Any]:
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return get_type_hints(kind)


def _branches(hint: Any, tag: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """The types a hint allows, None left out, by the tag that chooses among them."""
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        yield from _branches(inner, next((each.tag for each in extras if isinstance(each, Tag)), tag))
    elif get_origin(hint) in (Union, UnionType):
        for each in get_args(hint):
            yield from _branches(each, tag)
    elif hint is not NoneType:
        yield tag, hint
