"""What every block of an experiment file has in common."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict

__all__ = ["Block", "Count", "STRICT"]

STRICT = ConfigDict(
    extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
"""Unknown keys are refused, nothing is converted to another type, every number is finite."""

Count = Annotated[int, Ge(1), Le(100_000)]
"""How many of something there are; more than the limit is a slip of the pen."""


class Block(BaseModel):
    """A frozen group of settings with a sentence under every one."""

    model_config = STRICT
