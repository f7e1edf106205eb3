"""The search space: what may be tried for a field of `train`, and one choice of it put into a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Gt, MinLen
from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag

from cpsc_core.errors import SettingsError
from cpsc_core.settings import TrainSettings, TrialSettings, field_paths, replace_path
from orchestrator.config.block import Block
from orchestrator.store.records import STUDENT_ARCH

__all__ = [
    "Choices",
    "FIELDS",
    "FloatRange",
    "IntRange",
    "NOT_SEARCHED",
    "ParamSpec",
    "Params",
    "Range",
    "SPEC_KEYS",
    "Search",
    "apply",
    "field_kind",
    "setting_at",
]

FIELDS: Mapping[str, Any] = {**field_paths(TrainSettings), STUDENT_ARCH: str}
"""Type of every field that may be searched or depended on, by dotted path, limits included."""

NOT_SEARCHED: Mapping[str, str] = {
    "checkpoint_every": "cannot be searched: it changes no student",
    "compile": "cannot be searched: it changes how fast a trial is, not what it learns",
    "epochs": "cannot be searched: trials of different length do not compare",
    "recompute": "cannot be searched: it changes no student",
    "samples_every": "cannot be searched: it changes no student",
    "seed": "cannot be searched: a seed is good by luck; confirm runs the best trials with fresh ones",
}
"""Fields that no sampler may choose, and why."""


Condition = dict[str, Annotated[tuple[Any, ...], MinLen(1), Strict(False)]]


class _Spec(Block):
    when: Condition = Field(default_factory=dict)
    """Values that others must have for this to be tried at all; else the field keeps its fixed value."""


class FloatRange(_Spec):
    """Any number from low to high, both included."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether 1 to 10 is as likely as 10 to 100."""
    step: Annotated[float, Gt(0.0)] | None = None
    """Distance between the values that are tried; null: any value."""


class IntRange(_Spec):
    """Whole numbers from low to high, both included."""

    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    log: bool = False
    """Whether 1 to 10 is as likely as 10 to 100."""
    step: Annotated[int, Gt(0)] | None = None
    """Distance between the values that are tried; null: 1."""


class Choices(_Spec):
    """One of a few values, in no order."""

    choices: Annotated[tuple[Any, ...], MinLen(1), Strict(False)]
    """The values."""


SPEC_KEYS = frozenset({*FloatRange.model_fields, *IntRange.model_fields, *Choices.model_fields})
"""Keys of an entry of the search space."""

Range = FloatRange | IntRange
ParamSpec = FloatRange | IntRange | Choices


def field_kind(path: str) -> Any:
    """The bare type of a field of `train`: int, float, str or a Literal; None if there is no such field."""
    hint = FIELDS.get(path)
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def apply(settings: TrialSettings, params: Mapping[str, Any]) -> TrialSettings:
    """The settings of a trial with searched parameters, by dotted path, put into them.

    Numbers take the type of their field, so that a trial is the same however its sampler writes them.
    Raises SettingsError for a path that does not exist or a value outside the field's limits.
    """
    train = settings.train
    for path, value in params.items():
        if path != STUDENT_ARCH:
            train = replace_path(train, path, _typed(path, value))
    return replace(settings, train=train, student_arch=params.get(STUDENT_ARCH, settings.student_arch))


def setting_at(settings: TrialSettings, path: str) -> Any:
    """What a trial has at the dotted path of a searched parameter."""
    return settings.student_arch if path == STUDENT_ARCH else attrgetter(path)(settings.train)


def _typed(path: str, value: Any) -> Any:
    kind = field_kind(path)
    if kind not in (int, float):
        return value
    typed = kind(value)
    if typed != value:
        raise SettingsError(f"{path} must be a whole number, but is {value}")
    return typed


def _read_entries(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {path: _with_condition(_write_as_field(path, spec)) for path, spec in raw.items()}


def _write_as_field(path: str, raw: Any) -> Any:
    """1 given for a field that holds a fraction is 1.0: the same trial however the file writes it."""
    if not isinstance(raw, dict):
        return raw
    return {key: value if key == "when" else _as_kind(path, value) for key, value in raw.items()}


def _with_condition(raw: Any) -> Any:
    """Paths relative to `train`, and every condition a list of values."""
    if not isinstance(raw, dict) or not isinstance(raw.get("when"), dict):
        return raw
    when = {path.removeprefix("train."): value for path, value in raw["when"].items()}
    listed = {path: value if isinstance(value, list) else [value] for path, value in when.items()}
    return {**raw, "when": {path: _as_kind(path, value) for path, value in listed.items()}}


def _read_params(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    bare = {path.removeprefix("train."): value for path, value in raw.items()}
    return {path: _as_kind(path, value) for path, value in bare.items()}


def _as_kind(path: str, raw: Any) -> Any:
    return _as_floats(raw) if field_kind(path) is float else raw


def _as_floats(raw: Any) -> Any:
    match raw:
        case dict():
            return {key: _as_floats(value) for key, value in raw.items()}
        case list():
            return [_as_floats(value) for value in raw]
        case int() if not isinstance(raw, bool):
            return float(raw)
        case _:
            return raw


def _tag(raw: Any) -> str:
    if not isinstance(raw, dict):
        return (
            "<int>" if isinstance(raw, IntRange) else "<choices>" if isinstance(raw, Choices) else "<float>"
        )
    if "choices" in raw:
        return "<choices>"
    return "<int>" if all(type(raw.get(key)) is int for key in ("low", "high")) else "<float>"


Search = Annotated[
    dict[
        str,
        Annotated[
            Annotated[FloatRange, Tag("<float>")]
            | Annotated[IntRange, Tag("<int>")]
            | Annotated[Choices, Tag("<choices>")],
            Discriminator(_tag),
        ],
    ],
    MinLen(1),
    BeforeValidator(_read_entries),
]

Params = Annotated[dict[str, Any], MinLen(1), BeforeValidator(_read_params)]
"""Values by dotted path into `train`."""
