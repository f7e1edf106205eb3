"""What every block of an experiment file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["STRICT", "Block"]

STRICT = ConfigDict(
    extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
"""Unknown keys are refused, nothing is converted to another type, every number is finite."""


class Block(BaseModel):
    """A frozen group of settings with a sentence under every one."""

    model_config = STRICT
