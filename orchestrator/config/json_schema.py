"""The experiment file as a JSON Schema, by which editors complete and check it while it is written.

It says what each field is. What takes more than one field to judge only `validate` knows.
"""

from __future__ import annotations

from typing import Any

from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import FIELDS, NOT_SEARCHED

__all__ = ["experiment_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXTENDS = "Another experiment file, relative to this one, that this one changes."


def experiment_schema() -> dict[str, Any]:
    """The schema, draft 2020-12; equal for equal versions of the program."""
    schema = SweepConfig.model_json_schema()
    required = schema.pop("required")
    for block in schema["$defs"].values():
        # A file that extends another one has from there what it leaves out, in every block.
        block.pop("required", None)
    schema["properties"]["extends"] = {"type": "string", "description": _EXTENDS}
    search = schema["properties"]["search"]
    # 1 to 4 is a range of whole numbers and one of fractions, and which of them is for the field to say.
    entry = {"anyOf": search.pop("additionalProperties")["oneOf"]}
    search["properties"] = {path: entry for path in sorted(FIELDS) if path not in NOT_SEARCHED}
    search["additionalProperties"] = False
    return {
        "$schema": _DIALECT,
        **schema,
        "title": "Experiment file of cpsc-orchestrate",
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": required},
    }
