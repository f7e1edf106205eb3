"""The search space: what may be tried for a field of `train`, and one choice of it put into `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from annotated_types import Gt, MinLen
from pydantic import BeforeValidator, Discriminator, Strict, Tag

from cpsc_core.errors import SettingsError
from cpsc_core.settings import TrainSettings, field_paths, replace_path
from orchestrator.config.block import Block

if TYPE_CHECKING:
    from orchestrator.config.schema import SweepConfig

__all__ = [
    "Choices",
    "FIELDS",
    "FloatRange",
    "IntRange",
    "NOT_SEARCHED",
    "ParamSpec",
    "Range",
    "SPEC_KEYS",
    "Search",
    "field_kind",
    "resolve",
]

FIELDS: Mapping[str, Any] = field_paths(TrainSettings)
"""Type of every field of `train` by dotted path, limits included."""

NOT_SEARCHED: Mapping[str, str] = {
    "checkpoint_every": "cannot be searched: it changes no student",
    "epochs": "cannot be searched: trials of different length do not compare",
    "samples_every": "cannot be searched: it changes no student",
    "seed": "cannot be searched: a seed is good by luck; confirm runs the best trials with fresh ones",
}
"""Fields that no sampler may choose, and why."""


class FloatRange(Block):
    """Any number from low to high, both included."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether 1 to 10 is as likely as 10 to 100."""
    step: Annotated[float, Gt(0.0)] | None = None
    """Distance between the values that are tried; null: any value."""


class IntRange(Block):
    """Whole numbers from low to high, both included."""

    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    log: bool = False
    """Whether 1 to 10 is as likely as 10 to 100."""
    step: Annotated[int, Gt(0)] | None = None
    """Distance between the values that are tried; null: 1."""


class Choices(Block):
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


def resolve(config: SweepConfig, params: Mapping[str, Any]) -> TrainSettings:
    """The settings of a trial: searched parameters, by dotted path, put into the fixed part of every trial.

    Numbers take the type of their field, so that a trial is the same however its sampler writes them.
    Raises SettingsError for a path that `train` does not have or a value outside the field's limits.
    """
    settings = config.train
    for path, value in params.items():
        settings = replace_path(settings, path, _typed(path, value))
    return settings


def _typed(path: str, value: Any) -> Any:
    kind = field_kind(path)
    if kind not in (int, float):
        return value
    typed = kind(value)
    if typed != value:
        raise SettingsError(f"{path} must be a whole number, but is {value}")
    return typed


def _write_whole_numbers_as_field_types(raw: Any) -> Any:
    """1 given for a field that holds a fraction is 1.0: the same trial however the file writes it."""
    if not isinstance(raw, dict):
        return raw
    return {path: _as_floats(spec) if field_kind(path) is float else spec for path, spec in raw.items()}


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
    BeforeValidator(_write_whole_numbers_as_field_types),
]
